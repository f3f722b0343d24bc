"""What the streams of this process are connected to."""

import sys


def interactive() -> bool:
    """Whether a person sits at both ends: a prompt may be shown and answered."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def piped_text() -> str | None:
    """The text on stdin when it is not a terminal, else None; bytes that are no UTF-8 are replaced."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")
