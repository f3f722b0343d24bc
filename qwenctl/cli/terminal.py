"""What the streams of this process are connected to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def interactive() -> bool:
    """Whether a person sits at both ends: a prompt may be shown and answered."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def confirmed(question: str) -> bool:
    """Whether the person says yes; the question is on stderr, and no is the default."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show what is waited for while the block runs, on a terminal; nothing of it stays."""
    if not sys.stderr.isatty():
        yield
        return
    sys.stderr.write(text)
    sys.stderr.flush()
    try:
        yield
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def piped_text() -> str | None:
    """The text on stdin when it is not a terminal, else None; bytes that are no UTF-8 are replaced."""
    if sys.stdin is None or sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")
