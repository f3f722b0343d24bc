"""Copy: the one mover of content. Pull, push, import and export are this walk with other ends.

    root = source.resolve(reference)
    manifest → its blobs, side by side, skipping what is there → the manifest → the tag, last

Whatever stops it, at any point, leaves the target without a tag to something that is not whole.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from qwenctl.errors import Interrupted
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import Document, Index
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Reader, Source, Target, content_of, read_document

JOBS: Final = 4
"""Blobs that move at the same time; more gained nothing on loopback, and annoys registries."""


@dataclass(frozen=True, slots=True)
class BlobStarted:
    """A blob begins to move at byte `offset`; what is before it was kept from an earlier attempt."""

    descriptor: Descriptor
    offset: int


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """Bytes up to `position` have moved."""

    descriptor: Descriptor
    position: int


@dataclass(frozen=True, slots=True)
class BlobFinished:
    """A blob is at the target, verified; `moved_bytes` came over just now."""

    descriptor: Descriptor
    moved_bytes: int


@dataclass(frozen=True, slots=True)
class BlobSkipped:
    """A blob was at the target already."""

    descriptor: Descriptor


CopyEvent = BlobStarted | BlobProgress | BlobFinished | BlobSkipped
Observer = Callable[[CopyEvent], None]
"""Told what happens, one event at a time, from several threads in turn."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy did."""

    root: Descriptor
    moved_bytes: int
    blobs_moved: int
    blobs_present: int


@runtime_checkable
class Linker(Protocol):
    """A target that can keep a manifest without a tag."""

    def link(self, descriptor: Descriptor, repository: str) -> None:
        """Keep `descriptor` as part of `registry/repository`."""
        ...


def ignore(event: CopyEvent) -> None:
    """An observer that does not care."""


def copy(
    source: Source,
    reference: Reference,
    target: Target,
    target_reference: Reference | None = None,
    *,
    root: Descriptor | None = None,
    observe: Observer = ignore,
    jobs: int = JOBS,
) -> Copied:
    """Bring what `reference` names at `source` to `target`, under `target_reference` or the same name.

    `root` is what `reference` resolved to, for a caller that knows. A reference with a digest moves no
    tag; a target that can link keeps the content all the same. Raises: whatever the ends raise; the
    first error stops the other blobs.
    """
    root = root or source.resolve(reference)
    named = target_reference or reference
    tally = _Tally(observe)
    document = read_document(source, root)
    tree = _tree(source, root, document)
    blobs = _once(item for _, node in tree for item in node.successors if not item.is_manifest)
    with target.protect([*(item for item, _ in tree), *blobs]):
        _move_all(source, target, blobs, tally, jobs)
        for descriptor, node in reversed(tree):  # children before their parents
            target.push(descriptor, content_of(node.raw))
        if not named.pinned:
            target.tag(root, named)
        elif isinstance(target, Linker):
            target.link(root, f"{named.registry}/{named.repository}")
    return Copied(root, tally.moved_bytes, tally.blobs_moved, tally.blobs_present)


def _tree(source: Source, root: Descriptor, document: Document) -> list[tuple[Descriptor, Document]]:
    """The root and, below an index, everything under it, parents first."""
    nodes = [(root, document)]
    for item in document.successors if isinstance(document, Index) else ():
        if item.is_manifest and item.digest not in {node.digest for node, _ in nodes}:
            nodes += _tree(source, item, read_document(source, item))
    return nodes


def _once(descriptors: Iterable[Descriptor]) -> list[Descriptor]:
    return list({item.digest: item for item in descriptors}.values())


class _Tally:
    """Counts, and passes events on one at a time."""

    def __init__(self, observe: Observer) -> None:
        self._observe = observe
        self._lock = Lock()
        self.moved_bytes = self.blobs_moved = self.blobs_present = 0

    def tell(self, event: CopyEvent) -> None:
        with self._lock:
            if isinstance(event, BlobFinished):
                self.moved_bytes += event.moved_bytes
                self.blobs_moved += 1
            elif isinstance(event, BlobSkipped):
                self.blobs_present += 1
            self._observe(event)


class _Watched:
    """A reader that tells its position, and ends when the copy is over."""

    def __init__(
        self, reader: Reader, descriptor: Descriptor, offset: int, tally: _Tally, stop: Event
    ) -> None:
        self._reader, self._descriptor, self._tally, self._stop = reader, descriptor, tally, stop
        self.position = offset

    def readinto(self, buffer: memoryview, /) -> int:
        if self._stop.is_set():
            raise Interrupted("the copy was stopped")
        count = self._reader.readinto(buffer)
        self.position += count
        if count:
            self._tally.tell(BlobProgress(self._descriptor, self.position))
        return count

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _move(source: Source, target: Target, tally: _Tally, stop: Event, descriptor: Descriptor) -> None:
    """One blob; the target asks for it only when it is not there."""
    watched: list[_Watched] = []
    begun: list[int] = []

    def reopen(offset: int) -> Reader:
        if not watched:
            tally.tell(BlobStarted(descriptor, offset))
        begun.append(offset)
        watched.append(_Watched(source.fetch(descriptor, offset), descriptor, offset, tally, stop))
        return watched[-1]

    target.push(descriptor, reopen)
    if not watched:  # it was there, or another process brought it while we waited
        tally.tell(BlobSkipped(descriptor))
        return
    moved = sum(reader.position - offset for reader, offset in zip(watched, begun, strict=True))
    tally.tell(BlobFinished(descriptor, moved))


def _move_all(source: Source, target: Target, blobs: list[Descriptor], tally: _Tally, jobs: int) -> None:
    """All blobs over a bounded pool; the first error stops the rest and is raised.

    The threads are daemons: a Ctrl-C must not wait for a registry that does not answer.
    """
    waiting: SimpleQueue[Descriptor] = SimpleQueue()
    failures: SimpleQueue[BaseException | None] = SimpleQueue()
    stop = Event()
    for blob in sorted(blobs, key=lambda item: item.size, reverse=True):  # the longest first
        waiting.put(blob)
    work = partial(_work, partial(_move, source, target, tally, stop), waiting, failures, stop)
    threads = [Thread(target=work, daemon=True) for _ in range(min(jobs, len(blobs)))]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            if failure := failures.get():
                raise failure
    finally:
        stop.set()


def _work(
    move: Callable[[Descriptor], None],
    waiting: "SimpleQueue[Descriptor]",
    failures: "SimpleQueue[BaseException | None]",
    stop: Event,
) -> None:
    try:
        while not stop.is_set():
            move(waiting.get_nowait())
    except Empty:
        failures.put(None)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
        stop.set()
        failures.put(error)
    else:
        failures.put(None)
