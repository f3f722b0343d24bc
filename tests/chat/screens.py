"""Programs behind a real terminal: what they show, and keys for them."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|\x1b\][^\x07]*\x07")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """A program behind a terminal. `shown` is without control sequences, `raw` has all that came."""

    def __init__(self, master: int, child: subprocess.Popen[bytes]) -> None:
        self._master, self.child = master, child
        self.shown = ""
        self.raw = ""

    def keys(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def bytes(self, raw: bytes) -> None:
        """Type what is no text."""
        os.write(self._master, raw)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size; the program is told, as by a terminal."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.child.send_signal(signal.SIGWINCH)

    def wait(self, text: str, seconds: float = 20.0) -> str:
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

    def prompt(self) -> None:
        """Wait until something can be typed."""
        self.wait("Send a message")

    def end(self) -> int:
        """Wait for the end of the program; its exit status."""
        while True:
            try:
                piece = self._read()
            except OSError:  # Linux ends a terminal so
                break
            if not piece and self.child.poll() is not None:
                break
            self.shown += piece
        return self.child.wait(20)

    def _read(self) -> str:
        raw = os.read(self._master, 65536).decode(errors="replace")
        self.raw += raw
        # Terminals answer when they are asked where the cursor is.
        for _ in range(raw.count("\x1b[6n")):
            self.keys("\x1b[1;1R")
        return SEQUENCE.sub("", raw)


@contextmanager
def screen_of(argv: Sequence[str], **variables: str) -> Iterator[Screen]:
    """A program behind a terminal of 24 rows of 80 columns, with further environment variables."""
    master, slave = pty.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment: Mapping[str, str] = {**os.environ, **variables}
    child = subprocess.Popen(
        list(argv),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=environment,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )
    os.close(slave)
    try:
        yield Screen(master, child)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        os.close(master)
