"""How a check of the store looks while it runs: one bar on a terminal, calm lines in a log, JSON lines."""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

import msgspec

from qwenctl.cli.output import Printer, complain
from qwenctl.cli.progress import CALM_SECONDS, EVENT_SECONDS, Lines
from qwenctl.flows.verify import (
    BlobChecked,
    CheckEvent,
    CheckFinished,
    CheckObserver,
    CheckProgress,
    CheckStarted,
)
from qwenctl.units import render_bytes, render_rate


class CheckedLine(msgspec.Struct, frozen=True):
    """One JSON line of `verify --json` about a blob; `event` is `checked`."""

    event: str
    digest: str
    size: int
    state: str


class CheckingLine(msgspec.Struct, frozen=True):
    """One JSON line of `verify --json` about all blobs; `event` is `started` or `progress`."""

    event: str
    position: int
    size: int


class CalmCheck(Lines):
    """A line on stderr every ten seconds with what is read, nothing for what is quick."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = self._shown = clock()
        self._size_bytes = 0

    def __call__(self, event: CheckEvent) -> None:
        """Take an event; perhaps print a line."""
        match event:
            case CheckStarted(_, size_bytes):
                self._begun = self._shown = self._clock()
                self._size_bytes = size_bytes
            case CheckProgress(position) if (now := self._clock()) - self._shown >= CALM_SECONDS:
                self._shown = now
                rate = render_rate(position / max(now - self._begun, 0.001))
                complain(f"checked {render_bytes(position)} of {render_bytes(self._size_bytes)} ({rate})")
            case _:
                return


class JsonCheck(Lines):
    """JSON lines on stdout: one for each blob, and at most two a second on the way."""

    def __init__(self, printer: Printer, clock: Callable[[], float] = time.monotonic) -> None:
        self._printer = printer
        self._clock = clock
        self._size_bytes = 0
        self._told = clock()

    def __call__(self, event: CheckEvent) -> None:
        """Take an event; perhaps print a line."""
        match event:
            case CheckStarted(blobs, size_bytes) if blobs:
                self._size_bytes = size_bytes
                self._printer.event(CheckingLine("started", 0, size_bytes))
            case CheckProgress(position) if (now := self._clock()) - self._told >= EVENT_SECONDS:
                self._told = now
                self._printer.event(CheckingLine("progress", position, self._size_bytes))
            case BlobChecked(digest, size_bytes, state):
                self._printer.event(CheckedLine("checked", str(digest), size_bytes, state.value))
            case _:
                return


class BarCheck:
    """One bar on the terminal, with rate and time left. Gone when everything is read."""

    def __enter__(self) -> Self:
        from qwenctl.cli.bars import Bars

        self._progress = Bars(as_bytes=True)
        self._task = self._progress.add_task("checking", total=None)
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: CheckEvent) -> None:
        """Take an event and redraw (rich does so at most ten times a second)."""
        match event:
            case CheckStarted(_, size_bytes):
                self._progress.update(self._task, total=size_bytes)
            case CheckProgress(position):
                self._progress.update(self._task, completed=position)
            case CheckFinished():
                self._progress.stop()
            case _:
                return


def watch_check(printer: Printer) -> AbstractContextManager[CheckObserver]:
    """The display that fits: JSON lines, a bar on a terminal, calm lines elsewhere."""
    if printer.as_json:
        return JsonCheck(printer)
    return BarCheck() if sys.stderr.isatty() else CalmCheck()
