"""Garbage collection: mark what names, links and running pulls need, sweep the rest.

Works under the lock of the index, so nothing gains a name meanwhile. When a manifest that marks cannot be
read, it is unknown what it needs, and nothing is swept.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import BlobUnknown, IntegrityError, InvalidDigest
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import read_document
from qwenctl.store.disk import translated
from qwenctl.store.leases import leased
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Collected:
    """What was swept: digests and bytes. `unreadable` manifests kept everything in place."""

    digests: tuple[Digest, ...]
    size_bytes: int
    unreadable: tuple[Digest, ...] = ()


@dataclass(slots=True)
class _Marks:
    reached: set[Digest]
    unreadable: set[Digest]


def collect(
    store: Store, *, candidates: Iterable[Descriptor] | None = None, younger_than_seconds: float = 0.0
) -> Collected:
    """Delete content that nothing refers to.

    With `candidates` only what is under them is looked at (after a removal: those roots); without, all
    blobs are, save those changed in the last `younger_than_seconds`: an upload may still need them.
    """
    layout = store.layout
    with layout.lock():
        live = _mark(store, [entry.descriptor for entry in store.entries()])
        if live.unreadable:
            return Collected((), 0, tuple(sorted(live.unreadable)))
        keep = live.reached | leased(layout)
        if candidates is None:
            found = _all_blobs(store, time.time() - younger_than_seconds)
        else:
            found = list(_mark(store, candidates).reached)
        doomed = [layout.blob(digest) for digest in found if digest not in keep]
        sizes = {path: size for path in doomed if (size := _size(path)) is not None}
        for path in sorted(sizes, key=lambda path: sizes[path]):
            with translated(path):
                path.unlink(missing_ok=True)
    return Collected(tuple(_digest(path) for path in sizes), sum(sizes.values()))


def _mark(store: Store, roots: Iterable[Descriptor]) -> _Marks:
    """Everything under `roots`, breadth first, the roots included."""
    marks, queue = _Marks(set(), set()), list(roots)
    while queue:
        item = queue.pop()
        if item.digest in marks.reached:
            continue
        marks.reached.add(item.digest)
        if item.is_manifest:
            try:
                queue.extend(read_document(store, item).successors)
            except (BlobUnknown, IntegrityError):
                marks.unreadable.add(item.digest)
    return marks


def _all_blobs(store: Store, before_seconds: float) -> list[Digest]:
    found = []
    for path in store.layout.blobs.glob("*/*"):
        try:
            digest = _digest(path)
            if path.stat().st_mtime <= before_seconds:
                found.append(digest)
        except (InvalidDigest, FileNotFoundError):
            continue  # not ours, or gone meanwhile
    return found


def _digest(path: Path) -> Digest:
    return Digest.parse(f"{path.parent.name}:{path.name}")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
