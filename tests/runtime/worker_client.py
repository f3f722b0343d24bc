"""A worker process and the other end of its pipes, for tests."""

import os
import select
import subprocess
import sys
import time
from typing import Self

from qwenctl.runtime import wire
from qwenctl.runtime.events import Finished, TextDelta

PATIENCE_SECONDS = 30.0


class WorkerClient:
    """Starts `python …` as a worker; a context manager that kills what is left."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._frames = wire.FrameReader()
        self._reports: list[wire.Report] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, *commands: wire.Command) -> None:
        """Writes commands in one go."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(wire.encode, commands)))
        self.process.stdin.flush()

    def receive(self) -> wire.Report:
        """The next report. Raises: EOFError at the end of the stream, TimeoutError."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._reports:
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - time.monotonic())
            if not ready:
                raise TimeoutError
            chunk = os.read(self.process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise EOFError
            self._reports += map(wire.decode_report, self._frames.feed(chunk))
        return self._reports.pop(0)

    def finish(self, *ids: int) -> dict[int, tuple[str, Finished]]:
        """Text and end of the requests with these ids."""
        texts = dict.fromkeys(ids, "")
        ends: dict[int, tuple[str, Finished]] = {}
        while len(ends) < len(ids):
            report = self.receive()
            assert isinstance(report, wire.Emitted), report
            if isinstance(report.event, TextDelta):
                texts[report.id] += report.event.text
            elif isinstance(report.event, Finished):
                ends[report.id] = (texts[report.id], report.event)
        return ends

    def wait(self) -> int:
        """The exit status."""
        return self.process.wait(PATIENCE_SECONDS)
