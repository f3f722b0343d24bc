"""What Tab offers."""

from pathlib import Path

import pytest

from qwenctl.chat.completion import Candidate, Sources, candidates, is_completed_while_typing

SOURCES = Sources(lambda: ["guide", "qwen3"], lambda: [("3f2a0000", "why?")])


def offered(before: str) -> list[str]:
    """The line as each candidate would make it."""
    return [before[: len(before) - c.replaced] + c.text for c in candidates(before, SOURCES)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory: two files, a hidden one, a directory."""
    for name in ("notes.txt", "two words.txt", ".hidden"):
        (tmp_path / name).write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.py").write_text("")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("before", "lines"),
    [
        ("/sh", ["/show"]),
        ("/SH", ["/show"]),
        ("/model ", ["/model guide", "/model qwen3"]),
        ("/model q", ["/model qwen3"]),
        ("/set temp", ["/set temperature"]),
        ("/think o", ["/think on", "/think off"]),
        ("/load 3", ["/load 3f2a0000"]),
        ("/load no", ["/load notes.txt"]),
        ("/file ", ["/file notes.txt", "/file sub/", "/file two words.txt"]),
        ("/file .h", ["/file .hidden"]),
        ("/file sub/", ["/file sub/inner.py"]),
        ("/frob x", []),
        ("read @no", ["read @notes.txt"]),
        ("read @sub/i", ["read @sub/inner.py"]),
        ("read @tw", ['read @"two words.txt"']),
        ('read @"two w', ['read @"two words.txt"']),
        ("me@no", []),
        ("no", []),
        ("//no", []),
        ("/file \0", []),
        ("/file ~nobody-here/", []),
    ],
)
def test_candidates(before: str, lines: list[str]) -> None:
    """Commands, their own words, parameters, models, chats, paths."""
    assert offered(before) == lines


def test_a_command_comes_with_its_meaning() -> None:
    """And a chat with its first question."""
    assert next(candidates("/by", SOURCES)).note == "leave (Ctrl-D and twice Ctrl-C do too)"
    assert next(candidates("/load 3f", SOURCES)) == Candidate("3f2a0000", 2, "why?")


@pytest.mark.parametrize(
    ("before", "shown"), [("/mo", True), ("/model g", False), ("a @b", True), ("a", False), ("", False)]
)
def test_when_they_are_shown_unasked(before: str, shown: bool) -> None:
    """In a command's name and behind `@`; a message is not disturbed."""
    assert is_completed_while_typing(before) is shown
