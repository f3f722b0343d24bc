"""Commands behind a terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Typed:
    """What a command at a terminal showed, and its status."""

    status: int
    shown: str


def at_terminal(*arguments: str, answer: str | None = None, seconds: float = 30.0) -> Typed:
    """Runs a command behind a terminal; `answer` is typed once it asks."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "qwenctl", *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as child:
        os.close(slave)
        shown, deadline = "", time.monotonic() + seconds
        try:
            while piece := _next(master, deadline - time.monotonic()):
                shown += piece
                if answer is not None and "[y/N]" in shown:
                    os.write(master, f"{answer}\n".encode())
                    answer = None
            return Typed(child.wait(10), shown.replace("\r\n", "\n"))
        finally:
            child.kill()
            os.close(master)


def _next(master: int, seconds: float) -> str:
    assert select.select([master], [], [], max(0.0, seconds))[0], "nothing more is shown"
    try:
        return os.read(master, 65536).decode(errors="replace")
    except OSError:  # Linux, when the last process has closed the other end
        return ""
