"""Garbage collection: mark what names, links and running pulls need, sweep the rest.

Works under the lock of the index, so nothing gains a name meanwhile. When a manifest that marks cannot be
read, it is unknown what it needs, and nothing is swept.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from qwenctl.errors import Conflict, InvalidDigest
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import translated
from qwenctl.store.leases import leased
from qwenctl.store.reach import reach
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Collected:
    """What was swept: digests and bytes. `unreadable` manifests kept everything in place."""

    digests: tuple[Digest, ...]
    size_bytes: int
    unreadable: tuple[Digest, ...] = ()


def collect(
    store: Store, *, candidates: Iterable[Descriptor] | None = None, younger_than_seconds: float = 0.0
) -> Collected:
    """Delete content that nothing refers to.

    With `candidates` only what is under them is looked at (after a removal: those roots); without, all
    blobs are. Those changed in the last `younger_than_seconds` stay: an upload may still need them.
    """
    with store.layout.lock():
        needed, unreadable = _mark(store)
        if unreadable:
            return Collected((), 0, tuple(sorted(unreadable)))
        if candidates is None:
            looked_at = _all_blobs(store)
        else:  # roots first: killed in the middle, we leave content without a manifest, not the other way
            looked_at = [item.digest for item in reach(store, candidates).content]
        doomed = [digest for digest in looked_at if digest not in needed]
        return _sweep(store, doomed, time.time() - younger_than_seconds)


def delete_blob(store: Store, digest: Digest) -> None:
    """Delete one blob at once. Raises: BlobUnknown; Conflict when something needs it, or may."""
    with store.layout.lock():
        store.describe(digest)
        needed, unreadable = _mark(store)
        if unreadable or digest in needed:
            raise Conflict(f"`{digest}` is still needed", hint="remove the models that use it first")
        store.layout.disk.unlink(store.layout.blob(digest))


def _mark(store: Store) -> tuple[set[Digest], set[Digest]]:
    """What must stay, and the manifests that cannot say what they need.

    A leased manifest may be absent or damaged: its pull is on the way to put that right.
    """
    rooted = reach(store, [entry.descriptor for entry in store.entries()])
    pulled = reach(store, leased(store.layout))
    needed = {item.digest for item in (*rooted.content, *pulled.content)}
    return needed, {item.digest for item in rooted.unreadable}


def _sweep(store: Store, digests: Iterable[Digest], before_seconds: float) -> Collected:
    swept: dict[Digest, int] = {}
    for digest in digests:
        path = store.layout.blob(digest)
        status = _status(path)
        if status is not None and status[1] <= before_seconds:
            store.layout.disk.unlink(path)
            swept[digest] = status[0]
    return Collected(tuple(swept), sum(swept.values()))


def _status(path: Path) -> tuple[int, float] | None:
    """Size and time of the last change; None for a blob that is not here."""
    with translated(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
    return status.st_size, status.st_mtime


def _all_blobs(store: Store) -> list[Digest]:
    found = []
    with translated(store.layout.blobs):
        for path in store.layout.blobs.glob("*/*"):
            try:
                found.append(Digest.parse(f"{path.parent.name}:{path.name}"))
            except InvalidDigest:
                continue  # not ours
    return found
