"""Copy: the one mover of content. Pull, push, import and export are this walk with other ends.

    root = source.resolve(reference)
    manifest → its blobs, side by side, skipping what is there → the manifest → the tag, last

Whatever stops it, at any point, leaves the target without a tag to something that is not whole.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event, Lock, Semaphore, Thread
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from qwenctl.errors import IntegrityError, Interrupted
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import Document, Index
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Doubtable, Reader, Source, Target, blamed, content_of, read_document

JOBS: Final = 4
"""Blobs that move at the same time; more gained nothing on loopback, and annoys registries."""
_LAST_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class BlobStarted:
    """A blob begins to move at byte `offset`; what is before it was kept from an earlier attempt."""

    descriptor: Descriptor
    offset: int


@dataclass(frozen=True, slots=True)
class BlobShared:
    """Another process brings this blob; so far it has come to about `position`."""

    descriptor: Descriptor
    position: int


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


CopyEvent = BlobStarted | BlobShared | BlobProgress | BlobFinished | BlobSkipped
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
class Bounded(Protocol):
    """A target whose room can end."""

    def ensure_room(self, descriptors: Iterable[Descriptor]) -> None:
        """Raises: DiskFull when what is missing of `descriptors` does not find room."""
        ...


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
    first error stops the other blobs. DiskFull before the first byte when it can be foreseen.
    """
    root = root or source.resolve(reference)
    named = target_reference or reference
    tally = _Tally(observe)
    document = read_document(source, root)
    tree = _tree(source, root, document)
    blobs = _once(item for _, node in tree for item in node.successors if not item.is_manifest)
    with target.protect([*(item for item, _ in tree), *blobs]):
        if isinstance(target, Bounded):
            target.ensure_room(blobs)
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
    """A reader that tells what it brings, and ends when the copy is over."""

    def __init__(self, reader: Reader, brought: Callable[[int], None], stop: Event) -> None:
        self._reader, self._brought, self._stop = reader, brought, stop

    def readinto(self, buffer: memoryview, /) -> int:
        if self._stop.is_set():
            raise Interrupted("the copy was stopped")
        count = self._reader.readinto(buffer)
        if count:
            self._brought(count)
        return count

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Feed:
    """The content of one blob as its target asks for it, from one connection or several: `Divisible`."""

    def __init__(self, source: Source, descriptor: Descriptor, walk: "_Walk") -> None:
        self._source, self._descriptor, self._walk = source, descriptor, walk
        self._lock = Lock()
        self._kept_bytes = 0
        self._here_bytes: int | None = None
        self.moved_bytes = 0

    def __call__(self, offset: int, /) -> Reader:
        return self._open(offset, None)

    def piece(self, offset: int, length: int) -> Reader:
        return self._open(offset, length)

    def borrow(self) -> bool:
        return self._walk.connections.acquire(blocking=False)

    def give_back(self) -> None:
        self._walk.connections.release()

    def begin(self, kept_bytes: int) -> None:
        self._kept_bytes, self._here_bytes = kept_bytes, None

    def wait(self, here_bytes: int) -> None:
        if self._walk.stop.is_set():
            raise Interrupted("the copy was stopped")
        self._walk.tally.tell(BlobShared(self._descriptor, here_bytes))

    @property
    def asked_for(self) -> bool:
        """Whether the target wanted anything."""
        return self._here_bytes is not None

    def _open(self, offset: int, length: int | None) -> Reader:
        with self._lock:
            if self._here_bytes is None:
                self._here_bytes = self._kept_bytes
                self._walk.tally.tell(BlobStarted(self._descriptor, self._kept_bytes))
        reader = self._source.fetch(self._descriptor, offset, length)
        return _Watched(reader, self._brought, self._walk.stop)

    def _brought(self, count: int) -> None:
        with self._lock:
            assert self._here_bytes is not None
            self.moved_bytes += count
            self._here_bytes = min(self._here_bytes + count, self._descriptor.size)
            self._walk.tally.tell(BlobProgress(self._descriptor, self._here_bytes))


@dataclass(frozen=True, slots=True)
class _Walk:
    """What the threads of one copy share; `connections` are those that are free, over all blobs."""

    source: Source
    target: Target
    tally: _Tally
    connections: Semaphore
    stop: Event


def _move(walk: _Walk, descriptor: Descriptor) -> None:
    """One blob; the target asks for it only when it is not there."""
    feed = _Feed(walk.source, descriptor, walk)
    with blamed(walk.source):
        try:
            walk.target.push(descriptor, feed)
        except IntegrityError as error:
            if not (isinstance(walk.source, Doubtable) and walk.source.distrust(descriptor, error)):
                raise
            walk.target.push(descriptor, feed)
    if feed.asked_for:
        walk.tally.tell(BlobFinished(descriptor, feed.moved_bytes))
    else:  # it was there, or another process brought it while we waited
        walk.tally.tell(BlobSkipped(descriptor))


def _move_all(source: Source, target: Target, blobs: list[Descriptor], tally: _Tally, jobs: int) -> None:
    """All blobs over a bounded pool; the first error stops the rest and is raised.

    The threads are daemons: a Ctrl-C must not wait for a registry that does not answer.
    """
    waiting: SimpleQueue[Descriptor] = SimpleQueue()
    failures: SimpleQueue[BaseException | None] = SimpleQueue()
    for blob in sorted(blobs, key=lambda item: item.size, reverse=True):  # the longest first
        waiting.put(blob)
    walk = _Walk(source, target, tally, Semaphore(jobs), Event())
    threads = [
        Thread(target=_work, args=(walk, waiting, failures), daemon=True)
        for _ in range(min(jobs, len(blobs)))
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            if failure := failures.get():
                raise failure
    finally:
        walk.stop.set()
        _let_end(threads)


def _let_end(threads: list[Thread]) -> None:
    """Give the others the moment that they need to keep what came, and no more."""
    end = time.monotonic() + _LAST_SECONDS
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _work(
    walk: _Walk, waiting: "SimpleQueue[Descriptor]", failures: "SimpleQueue[BaseException | None]"
) -> None:
    try:
        with walk.connections:
            while not walk.stop.is_set():
                _move(walk, waiting.get_nowait())
    except Empty:
        failures.put(None)
    except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, which raises it
        walk.stop.set()
        failures.put(error)
    else:
        failures.put(None)
