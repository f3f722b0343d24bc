"""What the streams of this process are connected to."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from threading import Lock

from qwenctl.errors import UsageError


def interactive() -> bool:
    """Whether a person sits at both ends: a prompt may be shown and answered."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def wants_colour() -> bool:
    """Whether colours may be shown on a terminal. Source: no-color.org; terminfo's `dumb`."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def confirmed(question: str) -> bool:
    """Whether the person says yes; the question is on stderr, and no is the default."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ask(question: str) -> str:
    """What the person types after the question, which is on stderr; empty at the end of the input."""
    with _answering():
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline().strip()
    return ""


def ask_secret(question: str) -> str:
    """The same without an echo; the terminal echoes again afterwards, also after Ctrl-C."""
    from getpass import getpass

    with _answering():
        return getpass(question, sys.stderr)
    return ""


@contextmanager
def _answering() -> Iterator[None]:
    """Ends the line of a question that was left. Raises: UsageError for bytes that are no text."""
    try:
        yield
    except EOFError:
        sys.stderr.write("\n")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    except UnicodeDecodeError:  # without its cause, which carries what was typed
        raise UsageError("what was typed is not text in this terminal's encoding") from None


@contextmanager
def waiting(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is waited for while the block runs, on a terminal; nothing of it stays.

    The function replaces the text; any thread may call it, and after the end it does nothing.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    line = _Line()
    line.show(text)
    try:
        yield line.show
    finally:
        line.clear()


class _Line:
    """One line on stderr that is written over, never longer than the terminal is wide."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._gone = False

    def show(self, text: str) -> None:
        """This text in place of the one before."""
        columns = get_terminal_size().columns - 1
        with self._lock:
            if not self._gone:
                sys.stderr.write(f"\r\x1b[K{text if len(text) <= columns else f'{text[: columns - 1]}…'}")
                sys.stderr.flush()

    def clear(self) -> None:
        """An empty line, for good."""
        with self._lock:
            self._gone = True
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def piped_text() -> str | None:
    """The text on stdin when it is not a terminal, else None; bytes that are no UTF-8 are replaced."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")
