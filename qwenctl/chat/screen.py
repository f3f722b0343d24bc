"""What the chat draws: answers on stdout, all else on stderr; nothing twice, so a resize harms nothing."""

import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from qwenctl.chat.markdown import DIM, RESET, Markdown
from qwenctl.chat.plain import PlainText
from qwenctl.errors import QwenctlError
from qwenctl.units import render_duration

_ERASE: Final = "\r\x1b[K"


class Screen:
    """A terminal, with colours or, for one that is `plain`, without."""

    def __init__(self, *, plain: bool) -> None:
        self._plain = plain
        self._plain_notes = plain or not sys.stderr.isatty()  # they may go to a file

    def note(self, text: str) -> None:
        """Lines for the person, on stderr."""
        _write(sys.stderr, f"{text}\n")

    def quiet(self, text: str) -> None:
        """A line that is not to be in the way."""
        self.note(text if self._plain_notes else f"{DIM}{text}{RESET}")

    def error(self, error: QwenctlError) -> None:
        """An error as every command prints it."""
        self.note(f"error: {error.message}")
        if error.hint:
            self.note(f"hint: {error.hint}")

    def answer(self, *, hide_thoughts: bool) -> "AnswerView":
        """Where one answer is drawn."""
        return AnswerView(self._plain, self._plain_notes, hide_thoughts=hide_thoughts)


class AnswerView:
    """Draws one answer as it comes. Nothing of it can move the cursor: control sequences are taken out.

    The thoughts are dim and end before the answer begins; hidden ones are a line that goes away.
    """

    def __init__(self, plain: bool, plain_notes: bool, *, hide_thoughts: bool) -> None:
        self._plain_notes, self._hide_thoughts = plain_notes, hide_thoughts
        self._cleaner = PlainText()
        self._markdown = None if plain else Markdown()
        self._began = time.monotonic()
        self._state = "waiting"
        self._column = 0  # 0: the cursor is at the beginning of a line
        if not plain_notes:
            _write(sys.stderr, f"{DIM}…{RESET}")

    def thought(self, text: str) -> None:
        """A piece of what the model thinks."""
        if self._state == "waiting":
            self._state = "thinking"
            self._erase("thinking …" if self._hide_thoughts else "")
        if not self._hide_thoughts:
            self._show(sys.stderr, self._cleaner.feed(text), DIM)

    def said(self, text: str) -> None:
        """A piece of the answer."""
        if self._state != "answering":
            self._begin_answer()
        clean = self._cleaner.feed(text)
        self._show(sys.stdout, self._markdown.feed(clean) if self._markdown else clean)

    def end(self) -> None:
        """What was held back; the cursor is at the beginning of a line then."""
        if self._state == "waiting":
            self._erase()
            return
        rest = self._cleaner.end()
        if self._state == "thinking":
            self._end_thoughts(rest)
            return
        shown = self._markdown.feed(rest) + self._markdown.end() if self._markdown else rest
        self._show(sys.stdout, shown)
        if self._column:
            self._show(sys.stdout, "\n")

    def _begin_answer(self) -> None:
        if self._state == "thinking":
            self._end_thoughts(self._cleaner.end())
        else:
            self._erase()
        self._state = "answering"

    def _end_thoughts(self, rest: str) -> None:
        if self._hide_thoughts:
            seconds = render_duration(time.monotonic() - self._began)
            self._erase()
            self._show(sys.stderr, f"thought for {seconds}\n", DIM)
            return
        self._show(sys.stderr, rest + ("\n" if self._column or rest else ""), DIM)
        self._show(sys.stderr, "\n")

    def _erase(self, instead: str = "") -> None:
        """Takes the waiting line away."""
        if not self._plain_notes:
            _write(sys.stderr, _ERASE + (f"{DIM}{instead}{RESET}" if instead else ""))

    def _show(self, stream: object, text: str, style: str = "") -> None:
        if not text:
            return
        self._column = 0 if text.endswith("\n") else 1
        if style and not self._plain_notes:
            text = "".join(
                f"{style}{line}{RESET}" if line != "\n" else line for line in text.splitlines(True)
            )
        _write(stream, text)


def _write(stream: object, text: str) -> None:
    assert hasattr(stream, "write") and hasattr(stream, "flush")
    stream.write(text)
    stream.flush()


@contextmanager
def unechoed() -> Iterator[None]:
    """What is typed while the block runs is not shown in the midst of an answer; it waits for the prompt."""
    try:
        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
    except (termios.error, OSError, ValueError):
        yield
        return
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(handle, termios.TCSANOW, silent)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(handle, termios.TCSANOW, before)
