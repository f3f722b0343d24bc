"""How a copy looks while it runs: bars on a terminal, a calm line now and then elsewhere, JSON lines.

Each display is a context manager that is called with the events of `flows.copy`. None of them ever
moves backwards: a resumed blob begins where it is resumed.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec

from qwenctl.cli.output import Printer, complain
from qwenctl.cli.standing import Standing
from qwenctl.flows.copy import (
    BlobFinished,
    BlobProgress,
    BlobShared,
    BlobSkipped,
    BlobsPlanned,
    BlobStarted,
    CopyEvent,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.units import render_bytes, render_rate

if TYPE_CHECKING:
    from rich.progress import TaskID

CALM_SECONDS: Final = 10.0
"""Between two lines of progress in a log."""
EVENT_SECONDS: Final = 0.5
"""Between two JSON lines about one thing."""

Observe = Callable[[CopyEvent], None]
Event = Literal["started", "shared", "progress", "verifying", "finished", "present"]


class PlannedLine(msgspec.Struct, frozen=True):
    """The first JSON line of `pull --json` and `push --json`: the `blobs` of the model have `size` bytes."""

    event: Literal["planned"]
    blobs: int
    size: int


class ProgressLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One JSON line of `pull --json` and `push --json` about a blob.

    `started`, at byte `resumed_at`, or `shared`, when another process brings it; `progress` now and then;
    `verifying` once its last byte has come; `finished`. `present`: it was there already.
    """

    event: Event
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
        self._standing = Standing()
        self._told: set[Digest] = set()
        self._begun = self._shown = clock()

    def __call__(self, event: CopyEvent) -> None:
        """Take an event; perhaps print a line."""
        self._standing.take(event)
        match event:
            case BlobStarted(descriptor, offset) if offset:
                complain(f"{_label(descriptor)}: resumed at {render_bytes(offset)}")
            case BlobShared(descriptor) if descriptor.digest not in self._told:
                self._told.add(descriptor.digest)
                complain(f"{_label(descriptor)}: another qwenctl downloads it, waiting")
            case _:
                pass
        now = self._clock()
        if now - self._shown >= CALM_SECONDS and isinstance(event, BlobProgress | BlobShared):
            self._shown = now
            complain(self._line(now))

    def _line(self, now: float) -> str:
        standing = self._standing
        done, total = standing.done_bytes, standing.total_bytes
        rate = (done - standing.kept_bytes) / max(now - self._begun, 0.001)
        return f"{render_bytes(done)} of {render_bytes(total)} ({render_rate(rate)})"


class _Nothing(Lines):
    """No display."""

    def __call__(self, event: CopyEvent) -> None:
        """Take an event."""


class JsonProgress(Lines):
    """JSON lines on stdout: what is planned; start, progress at most twice a second, end of each blob."""

    def __init__(self, printer: Printer, clock: Callable[[], float] = time.monotonic) -> None:
        self._printer = printer
        self._clock = clock
        self._told: dict[Digest, float] = {}
        self._verifying: set[Digest] = set()

    def __call__(self, event: CopyEvent) -> None:
        """Take an event; perhaps print a line."""
        match event:
            case BlobsPlanned(blobs, size_bytes):
                self._printer.event(PlannedLine("planned", blobs, size_bytes))
            case BlobStarted(descriptor, offset):
                self._tell("started", descriptor, offset, resumed_at=offset)
            case BlobProgress(descriptor, position) if position == descriptor.size:
                self._tell_verifying(descriptor)
            case BlobProgress(descriptor, position):
                self._tell_now_and_then("progress", descriptor, position)
            case BlobShared(descriptor, position):
                self._tell_now_and_then("shared", descriptor, min(position, descriptor.size))
            case BlobFinished(descriptor):
                self._tell("finished", descriptor, descriptor.size)
            case BlobSkipped(descriptor):
                self._tell("present", descriptor, descriptor.size)

    def _tell_verifying(self, descriptor: Descriptor) -> None:
        """Once: of several connections more than one may bring a last byte."""
        if descriptor.digest not in self._verifying:
            self._verifying.add(descriptor.digest)
            self._tell("verifying", descriptor, descriptor.size)

    def _tell_now_and_then(
        self, event: Literal["progress", "shared"], descriptor: Descriptor, position: int
    ) -> None:
        now = self._clock()
        if now - self._told.get(descriptor.digest, 0.0) >= EVENT_SECONDS:
            self._told[descriptor.digest] = now
            self._tell(event, descriptor, position)

    def _tell(self, event: Event, descriptor: Descriptor, position: int, *, resumed_at: int = 0) -> None:
        digest = str(descriptor.digest)
        self._printer.event(ProgressLine(event, digest, descriptor.size, position, resumed_at))


class BarProgress:
    """A bar per blob that moves, with rate and time left, and above them one for all when there are several.

    A blob whose bytes are all there is being verified until it is finished. Gone when everything is done.
    """

    def __init__(self) -> None:
        self._standing = Standing()
        self._tasks: dict[Digest, TaskID] = {}
        self._total: TaskID | None = None

    def __enter__(self) -> Self:
        from qwenctl.cli.bars import Bars

        self._progress = Bars()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: CopyEvent) -> None:
        """Take an event and redraw (rich does so at most ten times a second)."""
        before = self._standing.kept_bytes
        followed = isinstance(event, BlobShared) and event.descriptor.digest in self._tasks
        self._standing.take(event)
        match event:
            case BlobsPlanned(blobs) if blobs > 1:
                self._total = self._progress.add_task("", total=self._standing.total_bytes)
            case BlobStarted(descriptor, offset):
                self._show(descriptor, " resumed" if offset else "")
            case BlobShared(descriptor):
                self._show(descriptor, " shared")
            case BlobProgress(descriptor):
                here = self._standing.position(descriptor.digest)
                self._show(descriptor, " verifying" if here == descriptor.size else None)
            case BlobFinished(descriptor) | BlobSkipped(descriptor):
                self._hide(descriptor)
            case _:
                pass
        self._show_total(jumped=self._standing.kept_bytes > before and not followed)

    def redraw(self) -> None:
        """Draw now what is known."""
        self._progress.refresh()

    def _show(self, descriptor: Descriptor, how: str | None) -> None:
        """The bar of a blob; `how` None leaves its label."""
        position, task = self._standing.position(descriptor.digest), self._tasks.get(descriptor.digest)
        if task is None:
            label = self._label(descriptor) + (how or "")
            task = self._progress.add_task(label, total=descriptor.size, completed=position)
            self._tasks[descriptor.digest] = task
        elif how is None:
            self._progress.update(task, completed=position)
        else:
            self._progress.update(task, description=self._label(descriptor) + how, completed=position)

    def _label(self, descriptor: Descriptor) -> str:
        return descriptor.digest.short if self._progress.narrow else _label(descriptor)

    def _hide(self, descriptor: Descriptor) -> None:
        task = self._tasks.pop(descriptor.digest, None)
        if task is not None:
            self._progress.remove_task(task)

    def _show_total(self, *, jumped: bool) -> None:
        """What came before this copy is no speed: at a jump the measuring begins anew. What another process
        brings while we look on is one.
        """
        if self._total is None:
            return
        standing = self._standing
        label = f"{standing.finished}/{standing.blobs} blobs"
        if jumped:
            self._progress.reset(self._total, completed=standing.done_bytes, description=label)
        else:
            self._progress.update(self._total, completed=standing.done_bytes, description=label)


def watch(printer: Printer) -> AbstractContextManager[Observe]:
    """The display that fits: JSON lines, bars on a terminal, calm lines elsewhere."""
    if printer.as_json:
        return JsonProgress(printer)
    if printer.quiet:
        return _Nothing()
    return BarProgress() if sys.stderr.isatty() else CalmProgress()


def _label(descriptor: Descriptor) -> str:
    return f"{descriptor.digest.short} {render_bytes(descriptor.size):>9}"
