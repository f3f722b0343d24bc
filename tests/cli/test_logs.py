"""`qwenctl logs`: what the runner and its workers said, over a runner of scripted models."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.log import old_log
from qwenctl.runner.messages import LOG_NAME
from tests.cli.conftest import Command
from tests.runner.runner_builders import ask, service


@pytest.fixture
def runner(store_path: Path) -> Iterator[RunnerClient]:
    """A runner that has loaded two models."""
    with service(load_settings()) as (client, _):
        for name in ("echo", "other"):
            list(client.chat(name, ask("hi")))
        log = load_settings().state / LOG_NAME
        while "request 2: " not in log.read_text():  # it is written when the answer has gone out
            time.sleep(0.01)
        yield client


def test_the_end_of_the_log(qwenctl: Command, runner: RunnerClient) -> None:
    """The last lines as they are in the file; `all` is the whole of it."""
    every = qwenctl("logs", "--tail", "all").out.splitlines()
    assert "is ready" in every[0]
    assert qwenctl("logs", "-n", "2").out.splitlines() == every[-2:]
    assert qwenctl("logs", "-n", "0").out == ""


def test_one_model(qwenctl: Command, runner: RunnerClient) -> None:
    """What its worker said, and what the runner said of it."""
    shown = qwenctl("logs", "echo").out
    assert "opening echo" in shown and "`echo` is loaded" in shown
    assert "other" not in shown


def test_json(qwenctl: Command, runner: RunnerClient) -> None:
    """A line for each, then the envelope with how many there were."""
    *lines, document = map(json.loads, qwenctl("logs", "--json").out.splitlines())
    assert {tuple(line) for line in lines} == {("time", "level", "source", "text")}
    assert {line["source"] for line in lines} == {"runner", "echo", "other"}
    assert document["data"] == {"path": str(load_settings().state / LOG_NAME), "lines": len(lines)}


def test_there_is_none(qwenctl: Command) -> None:
    """No log is no fault, and is told."""
    shown = qwenctl("logs")
    assert (shown.status, shown.out, shown.err) == (0, "", "there is no log yet\n")


@pytest.mark.parametrize("count", ["-1", "x", "1.5"])
def test_a_number_of_lines_that_is_none(qwenctl: Command, count: str) -> None:
    """Exit status 2."""
    assert qwenctl("logs", "--tail", count).status == 2


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_following_ends_with_the_interrupt(runner: RunnerClient, flags: tuple[str, ...]) -> None:
    """It goes on across a change of files; Ctrl-C is status 130, and no word about it to a person."""
    log = load_settings().state / LOG_NAME
    program = [sys.executable, "-m", "qwenctl", "logs", "-f", "-n", "1", "third", *flags]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        list(runner.chat("third", ask("hi")))
        first = child.stdout.readline()
        log.rename(old_log(log))
        log.write_text("2026-01-01T00:00:00.000Z INFO third in the new file\n")
        while "in the new file" not in (line := child.stdout.readline()):
            assert line
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert "third" in first
    assert (child.returncode, err) == (130, "")
    assert json.loads(out)["errors"][0]["code"] == "interrupted" if flags else out == ""
