"""How a copy looks while it runs: bars on a terminal, a calm line now and then elsewhere, JSON lines.

Each display is a context manager that is called with the events of `flows.copy`. None of them ever
moves backwards: a resumed blob begins where it is resumed.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec

from qwenctl.cli.output import Printer, complain
from qwenctl.flows.copy import BlobFinished, BlobProgress, BlobShared, BlobSkipped, BlobStarted, CopyEvent
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.units import render_bytes, render_rate

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

CALM_SECONDS: Final = 10.0
"""Between two lines of progress in a log."""
EVENT_SECONDS: Final = 0.5
"""Between two JSON lines about one thing."""

Observe = Callable[[CopyEvent], None]


class ProgressLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One JSON line of `pull --json` and `push --json`."""

    event: str
    digest: str
    size: int
    position: int
    resumed_at: int = 0


class Lines:
    """A display that needs no preparation, and nothing put away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class CalmProgress(Lines):
    """A line on stderr every ten seconds with what is done, nothing for what is quick."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sizes: dict[Digest, int] = {}
        self._positions: dict[Digest, int] = {}
        self._offsets: dict[Digest, int] = {}
        self._begun = self._shown = clock()

    def __call__(self, event: CopyEvent) -> None:
        """Take an event; perhaps print a line."""
        match event:
            case BlobStarted(descriptor, offset):
                self._sizes[descriptor.digest] = descriptor.size
                self._positions[descriptor.digest] = self._offsets[descriptor.digest] = offset
                if offset:
                    complain(f"{_label(descriptor)}: resumed at {render_bytes(offset)}")
            case BlobProgress(descriptor, position):
                self._positions[descriptor.digest] = position
            case BlobShared(descriptor, position):
                self._share(descriptor, position)
            case _:
                return
        now = self._clock()
        if now - self._shown >= CALM_SECONDS:
            self._shown = now
            complain(self._line(now))

    def _share(self, descriptor: Descriptor, position: int) -> None:
        """Count what another process brings, but not as our own speed."""
        if descriptor.digest not in self._sizes:
            self._sizes[descriptor.digest] = descriptor.size
            complain(f"{_label(descriptor)}: another qwenctl downloads it, waiting")
        self._positions[descriptor.digest] = self._offsets[descriptor.digest] = min(position, descriptor.size)

    def _line(self, now: float) -> str:
        done, total = sum(self._positions.values()), sum(self._sizes.values())
        rate = (done - sum(self._offsets.values())) / max(now - self._begun, 0.001)
        return f"{render_bytes(done)} of {render_bytes(total)} ({render_rate(rate)})"


class JsonProgress(Lines):
    """JSON lines on stdout: start, progress at most twice a second a blob, end."""

    def __init__(self, printer: Printer, clock: Callable[[], float] = time.monotonic) -> None:
        self._printer = printer
        self._clock = clock
        self._told: dict[Digest, float] = {}

    def __call__(self, event: CopyEvent) -> None:
        """Take an event; perhaps print a line."""
        match event:
            case BlobStarted(descriptor, offset):
                self._tell("started", descriptor, offset, resumed_at=offset)
            case BlobProgress(descriptor, position):
                self._tell_now_and_then("progress", descriptor, position)
            case BlobShared(descriptor, position):
                self._tell_now_and_then("shared", descriptor, min(position, descriptor.size))
            case BlobFinished(descriptor):
                self._tell("finished", descriptor, descriptor.size)
            case BlobSkipped(descriptor):
                self._tell("present", descriptor, descriptor.size)

    def _tell_now_and_then(self, event: str, descriptor: Descriptor, position: int) -> None:
        now = self._clock()
        if now - self._told.get(descriptor.digest, 0.0) >= EVENT_SECONDS:
            self._told[descriptor.digest] = now
            self._tell(event, descriptor, position)

    def _tell(self, event: str, descriptor: Descriptor, position: int, *, resumed_at: int = 0) -> None:
        digest = str(descriptor.digest)
        self._printer.event(ProgressLine(event, digest, descriptor.size, position, resumed_at))


class BarProgress:
    """A bar per blob on the terminal, with rate and time left. Gone when everything is done."""

    def __init__(self) -> None:
        self._tasks: dict[Digest, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress = _make_bars()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: CopyEvent) -> None:
        """Take an event and redraw (rich does so at most ten times a second)."""
        match event:
            case BlobStarted(descriptor, offset):
                self._show(descriptor, offset, " resumed" if offset else "")
            case BlobShared(descriptor, position):
                self._show(descriptor, min(position, descriptor.size), " shared")
            case BlobProgress(descriptor, position):
                self._progress.update(self._tasks[descriptor.digest], completed=position)
            case BlobFinished(descriptor) | BlobSkipped(descriptor) if descriptor.digest in self._tasks:
                self._progress.update(self._tasks[descriptor.digest], completed=descriptor.size)
            case _:
                return

    def _show(self, descriptor: Descriptor, position: int, how: str) -> None:
        label, task = _label(descriptor) + how, self._tasks.get(descriptor.digest)
        if task is None:
            task = self._progress.add_task(label, total=descriptor.size, completed=position)
            self._tasks[descriptor.digest] = task
        else:
            self._progress.update(task, description=label, completed=position)


def watch(printer: Printer) -> AbstractContextManager[Observe]:
    """The display that fits: JSON lines, bars on a terminal, calm lines elsewhere."""
    if printer.as_json:
        return JsonProgress(printer)
    return BarProgress() if sys.stderr.isatty() else CalmProgress()


def _label(descriptor: Descriptor) -> str:
    return f"{descriptor.digest.short} {render_bytes(descriptor.size):>9}"


def _make_bars() -> "Progress":
    from rich.progress import TextColumn

    return make_bars(TextColumn("{task.percentage:>3.0f}%"))


def make_bars(measure: "ProgressColumn") -> "Progress":
    """Bars on stderr that are gone when all is done: name, bar, `measure`, rate, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        measure,
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=Console(stderr=True),
        transient=True,
    )
