"""The log: who said what when, in files that stay small, read and followed across their change."""

import logging
from contextlib import closing
from pathlib import Path

import pytest

from qwenctl.runner.log import LIMIT_BYTES, Follower, LogLine, logging_to, old_log, parse_line, read_log
from qwenctl.runner.messages import LOG_NAME
from tests.runner.runner_builders import ask, service, settings_in

LOGGER = logging.getLogger("qwenctl.test")


def everything(_: LogLine) -> bool:
    """All lines."""
    return True


def test_lines_say_who_and_when(tmp_path: Path) -> None:
    """What a worker writes to its stderr has its model's name, what the runner says its own."""
    settings = settings_in(tmp_path)
    with service(settings) as (client, _):
        list(client.chat("echo", ask("hello")))
    lines = read_log(settings.state / LOG_NAME, None, everything)
    assert all(line.time and line.level for line in lines)
    said = [line for line in lines if line.source == "echo"]
    assert any("opening echo with context" in line.text for line in said)
    assert {line.level for line in said} == {"INFO"}
    about = read_log(settings.state / LOG_NAME, None, lambda line: line.is_about("echo"))
    assert {line.source for line in about} == {"echo", "runner"}
    assert any("`echo` is loaded" in line.text for line in about)


def test_texts_are_never_in_the_log(tmp_path: Path) -> None:
    """Neither the request nor the answer, also where bodies are recorded."""
    settings = settings_in(tmp_path)
    with service(settings, records_bodies=True) as (client, _):
        list(client.chat("echo", ask("my-secret")))
    assert "my-secret" not in (settings.state / LOG_NAME).read_text()


def test_the_last_words_of_a_worker_are_there(tmp_path: Path) -> None:
    """What a worker says as it falls is in the log before its end is told."""
    settings = settings_in(tmp_path)
    with service(settings) as (client, _), pytest.raises(Exception, match="SIGABRT"):
        client.load("crashing")
    texts = [line.text for line in read_log(settings.state / LOG_NAME, None, everything)]
    opened = next(number for number, text in enumerate(texts) if "opening crashing" in text)
    ended = next(number for number, text in enumerate(texts) if "SIGABRT" in text)
    assert opened < ended


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "2026-01-01T00:00:00.000Z WARNING qwen2.5:7B llama.cpp: a  b",
            LogLine("2026-01-01T00:00:00.000Z", "WARNING", "qwen2.5:7B", "llama.cpp: a  b"),
        ),
        ("Fatal Python error", LogLine(None, None, None, "Fatal Python error")),
        ("", LogLine(None, None, None, "")),
    ],
)
def test_a_line_is_parsed(text: str, line: LogLine) -> None:
    """What has another form is a text alone."""
    assert parse_line(text) == line


def test_a_full_file_becomes_the_old_one(tmp_path: Path) -> None:
    """Both are read as one, the old one first; there are never more than two."""
    path = tmp_path / "runner.log"
    with logging_to(path):
        for number in range(2 * LIMIT_BYTES // 1000 + 10):
            LOGGER.info("%d %s", number, "x" * 1000)
        LOGGER.info("the last")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["runner.log", "runner.old.log"]
    assert path.stat().st_size <= LIMIT_BYTES
    numbers = [int(line.text.split()[0]) for line in read_log(path, None, everything)[:-1]]
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]
    assert [line.text for line in read_log(path, 1, everything)] == ["the last"]


def test_a_traceback_keeps_the_form(tmp_path: Path) -> None:
    """Each of its lines has time, level and source."""
    path = tmp_path / "runner.log"
    with logging_to(path):
        try:
            raise ValueError("oops")
        except ValueError:
            LOGGER.exception("it failed")
    lines = read_log(path, None, everything)
    assert {(line.level, line.source) for line in lines} == {("ERROR", "runner")}
    assert (lines[0].text, lines[-1].text) == ("it failed", "ValueError: oops")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a log may be."""
    return tmp_path / "runner.log"


def new_texts(follower: Follower) -> list[str]:
    """What came since the last look."""
    return [line.text for line in follower.arrived()]


def test_following_survives_the_change_of_files(path: Path) -> None:
    """No line is missed or seen twice when the file that is followed becomes the old one."""
    with logging_to(path):
        LOGGER.info("before")
    with closing(Follower(path)) as follower:
        with logging_to(path):
            LOGGER.info("first")
            seen = new_texts(follower)
            LOGGER.info("late in the first")
        path.rename(old_log(path))
        with logging_to(path):
            LOGGER.info("early in the second")
            seen += new_texts(follower)
            LOGGER.info("second")
        seen += new_texts(follower)
    assert seen == ["first", "late in the first", "early in the second", "second"]


def test_following_waits_for_the_file(path: Path) -> None:
    """A log that is not there yet is read from its beginning once it is; half a line waits for its rest."""
    with closing(Follower(path)) as follower:
        assert new_texts(follower) == []
        path.write_bytes(b"one\ntw")
        assert new_texts(follower) == ["one"]
        with path.open("ab") as file:
            file.write(b"o\n")
        assert new_texts(follower) == ["two"]


def test_a_file_that_was_emptied_is_read_again(path: Path) -> None:
    """Somebody's `> runner.log` is no end."""
    path.write_bytes(b"something long\n")
    with closing(Follower(path)) as follower:
        path.write_bytes(b"new\n")
        assert new_texts(follower) == ["new"]
