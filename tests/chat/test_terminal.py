"""The chat in a real terminal: typing, stopping, leaving, pasting."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qwenctl.chat.terminal import answer_once

DRIVER = Path(__file__).with_name("driver.py")
SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]")


class Screen:
    """A program behind a terminal: what it showed, and keys for it."""

    def __init__(self, master: int, child: subprocess.Popen[bytes]) -> None:
        self._master, self.child = master, child
        self.shown = ""

    def keys(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def wait(self, text: str, seconds: float = 10.0) -> str:
        """Wait until `text` is shown; everything up to its end, which is then forgotten."""
        deadline = time.monotonic() + seconds
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come; the screen has {self.shown!r}"
            if select.select([self._master], [], [], left)[0]:
                self.shown += self._read()
        end = self.shown.index(text) + len(text)
        shown, self.shown = self.shown[:end], self.shown[end:]
        return shown

    def _read(self) -> str:
        raw = os.read(self._master, 65536).decode(errors="replace")
        # Terminals answer when they are asked where the cursor is.
        for _ in range(raw.count("\x1b[6n")):
            self.keys("\x1b[1;1R")
        return SEQUENCE.sub("", raw)


@contextmanager
def terminal(history: Path) -> Iterator[Screen]:
    """The scripted conversation behind a pty of 80 columns."""
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, str(DRIVER), str(history)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(slave)
    try:
        yield Screen(master, child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(master)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    """A conversation that has begun."""
    with terminal(tmp_path / "state" / "history") as opened:
        opened.wait("Send a message")
        yield opened


def test_a_question_is_answered_and_remembered(screen: Screen) -> None:
    """The answer is shown without control sequences; the next question carries the first two turns."""
    screen.keys("hi\r")
    assert "\x1b" not in screen.wait("[1] 'hi' done")
    screen.wait("<closed>")
    screen.keys("again\r")
    screen.wait("[3] 'again' done")


def test_ctrl_c_stops_an_answer_at_once_and_the_chat_goes_on(screen: Screen) -> None:
    """The model is told to stop, and the prompt is back."""
    screen.keys("count\r")
    screen.wait("5 ")
    begun = time.monotonic()
    screen.keys("\x03")
    screen.wait("<closed>")
    assert time.monotonic() - begun < 1.0
    screen.wait("Send a message")
    screen.keys("still there?\r")
    screen.wait("'still there?' done")


def test_ctrl_d_leaves_and_ctrl_c_at_the_prompt_does_not(screen: Screen) -> None:
    """Ctrl-C on an empty line says how to leave; Ctrl-D leaves in order."""
    screen.keys("\x03")
    screen.wait("Ctrl-D or /bye leaves")
    screen.wait("Send a message")
    screen.keys("\x04")
    screen.wait("left in order")
    assert screen.child.wait(5) == 0


def test_several_lines_between_quotes_are_one_message(screen: Screen) -> None:
    """The prompt changes until the closing quotes."""
    screen.keys('"""one\r')
    screen.wait("...")
    screen.keys('two"""\r')
    screen.wait(r"'one\ntwo' done")


def test_pasted_lines_are_one_message(screen: Screen) -> None:
    """A bracketed paste is not sent line by line."""
    screen.keys("\x1b[200~first\nsecond\x1b[201~")
    time.sleep(0.3)
    screen.keys("\r")
    screen.wait(r"'first\nsecond' done")


def test_an_answer_that_fails_is_reported_and_the_chat_goes_on(screen: Screen) -> None:
    """Message and hint, then the prompt; the failed question is forgotten."""
    screen.keys("fail\r")
    shown = screen.wait("hint: mend it")
    assert "error: it broke" in shown
    screen.wait("Send a message")
    screen.keys("hi\r")
    screen.wait("[1] 'hi' done")


def test_commands(screen: Screen) -> None:
    """`/help` helps, a slip gets a suggestion, `/bye` leaves."""
    screen.keys("/help\r")
    screen.wait("forget the conversation")
    screen.wait("Send a message")
    screen.keys("/hepl\r")
    screen.wait("did you mean /help?")
    screen.wait("Send a message")
    screen.keys("/bye\r")
    screen.wait("left in order")


def test_the_history_is_private(tmp_path: Path) -> None:
    """Only its owner may read what was typed."""
    history = tmp_path / "state" / "history"
    with terminal(history) as screen:
        screen.wait("Send a message")
        screen.keys("secret\r")
        screen.wait("done")
        assert history.stat().st_mode & 0o777 == 0o600
        assert "secret" in history.read_text()


class Pieces:
    """An answer that notes whether it was closed."""

    def __init__(self, *pieces: str) -> None:
        self._pieces = iter(pieces)
        self.closed = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("pieces", "clean", "written"),
    [
        (("one ", "two"), False, "one two\n"),
        (("one\n",), False, "one\n"),
        ((), False, "\n"),
        (("\x1b[31mred",), True, "red\n"),
        (("\x1b[31mred",), False, "\x1b[31mred\n"),
    ],
)
def test_one_answer_ends_with_one_line_break(
    capsys: pytest.CaptureFixture[str], pieces: tuple[str, ...], clean: bool, written: str
) -> None:
    """A pipe gets the text as it is, a terminal without control sequences."""
    answer = Pieces(*pieces)
    answer_once(answer, clean=clean)
    assert capsys.readouterr().out == written
    assert answer.closed
