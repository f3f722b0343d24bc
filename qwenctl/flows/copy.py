"""Copy: the one mover of content. Pull, push, import and export are this walk with other ends.

    root = source.resolve(reference)
    manifest → its blobs, side by side, skipping what is there → the manifest → the tag, last

Whatever stops it, at any point, leaves the target without a tag to something that is not whole.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event, Lock, Semaphore
from typing import Final, Protocol, runtime_checkable

from qwenctl.errors import IntegrityError, Interrupted
from qwenctl.flows.side_by_side import side_by_side
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import Document, Index
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Closing, Doubtable, Reader, Source, Target, blamed, content_of, read_document

JOBS: Final = 4
"""Blobs that move at the same time; more gained nothing on loopback, and annoys registries."""


@dataclass(frozen=True, slots=True)
class BlobsPlanned:
    """What belongs to the content, before the first event of a blob: how many, and their size in all."""

    blobs: int
    size_bytes: int


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


CopyEvent = BlobsPlanned | BlobStarted | BlobShared | BlobProgress | BlobFinished | BlobSkipped
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
        tally.tell(BlobsPlanned(len(blobs), sum(item.size for item in blobs)))
        _move_all(source, target, blobs, tally.tell, jobs)
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


class _Watched(Closing):
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


class _Feed:
    """The content of one blob as its target asks for it, from one connection or several: `Divisible`."""

    def __init__(
        self, source: Source, descriptor: Descriptor, tell: Observer, stop: Event, spare: Semaphore
    ) -> None:
        self._source, self._descriptor = source, descriptor
        self._tell, self._stop, self._spare = tell, stop, spare
        self._lock = Lock()
        self._kept_bytes = 0
        self._here_bytes: int | None = None
        self.moved_bytes = 0

    def __call__(self, offset: int, /) -> Reader:
        return self._open(offset, None)

    def piece(self, offset: int, length: int) -> Reader:
        return self._open(offset, length)

    def borrow(self) -> bool:
        return self._spare.acquire(blocking=False)

    def give_back(self) -> None:
        self._spare.release()

    def begin(self, kept_bytes: int) -> None:
        self._kept_bytes, self._here_bytes = kept_bytes, None

    def wait(self, here_bytes: int) -> None:
        if self._stop.is_set():
            raise Interrupted("the copy was stopped")
        self._tell(BlobShared(self._descriptor, here_bytes))

    @property
    def asked_for(self) -> bool:
        """Whether the target wanted anything."""
        return self._here_bytes is not None

    def _open(self, offset: int, length: int | None) -> Reader:
        with self._lock:
            if self._here_bytes is None:
                self._here_bytes = self._kept_bytes
                self._tell(BlobStarted(self._descriptor, self._kept_bytes))
        reader = self._source.fetch(self._descriptor, offset, length)
        return _Watched(reader, self._brought, self._stop)

    def _brought(self, count: int) -> None:
        with self._lock:
            assert self._here_bytes is not None
            self.moved_bytes += count
            self._here_bytes = min(self._here_bytes + count, self._descriptor.size)
            self._tell(BlobProgress(self._descriptor, self._here_bytes))


def move(
    source: Source,
    target: Target,
    descriptor: Descriptor,
    tell: Observer,
    stop: Event,
    spare: Semaphore,
) -> None:
    """Bring one blob; `target` asks for it only when it is not there.

    `tell` gets its events, in turn. `stop` ends it with Interrupted. `spare` counts the further connections
    that may be open. Raises: whatever the ends raise.
    """
    feed = _Feed(source, descriptor, tell, stop, spare)
    with blamed(source):
        try:
            target.push(descriptor, feed)
        except IntegrityError as error:
            if not (isinstance(source, Doubtable) and source.distrust(descriptor, error)):
                raise
            target.push(descriptor, feed)
    if feed.asked_for:
        tell(BlobFinished(descriptor, feed.moved_bytes))
    else:  # it was there, or another process brought it while we waited
        tell(BlobSkipped(descriptor))


def _move_all(source: Source, target: Target, blobs: list[Descriptor], tell: Observer, jobs: int) -> None:
    """All blobs, the longest first, over so many connections in all: who has no blob left gives one away."""
    spare, unstarted, lock = Semaphore(max(0, jobs - len(blobs))), len(blobs), Lock()

    def work(descriptor: Descriptor, stop: Event) -> None:
        nonlocal unstarted
        with lock:
            unstarted -= 1
        try:
            move(source, target, descriptor, tell, stop, spare)
        finally:
            if not unstarted:
                spare.release()

    side_by_side(work, sorted(blobs, key=lambda item: item.size, reverse=True), jobs)
