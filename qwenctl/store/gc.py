"""Garbage collection: mark what names, links and running pulls need, sweep the rest.

Works under the lock of the index, so nothing gains a name meanwhile. When a manifest that marks cannot be
read, it is unknown what it needs, and nothing is swept.
"""

import time
from collections.abc import Container, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from qwenctl.errors import AccessDenied, Conflict, InvalidDigest
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import translated
from qwenctl.store.footprint import Footprint, measure
from qwenctl.store.layout import Layout
from qwenctl.store.leases import Leases, leased, read_leases
from qwenctl.store.reach import reach
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Collected:
    """What was swept: digests, bytes, files. `unreadable` manifests kept everything in place."""

    digests: tuple[Digest, ...]
    size_bytes: int
    unreadable: tuple[Digest, ...] = ()
    files: tuple[Footprint, ...] = ()


def collect(
    store: Store, *, candidates: Iterable[Descriptor] | None = None, younger_than_seconds: float = 0.0
) -> Collected:
    """Delete content that nothing refers to.

    With `candidates` only what is under them is looked at (after a removal: those roots); without, all
    blobs are. Those changed in the last `younger_than_seconds` stay: an upload may still need them.
    """
    with store.layout.lock():
        for draft in store.path.glob(".index.json.*.draft"):  # of a writer that was killed: we have the lock
            store.layout.disk.unlink(draft)
        needed, unreadable = _mark(store)
        if unreadable:
            return Collected((), 0, tuple(sorted(unreadable)))
        if candidates is None:
            looked_at = blob_digests(store)
        else:  # roots first: killed in the middle, we leave content without a manifest, not the other way
            looked_at = [item.digest for item in reach(store, candidates).content]
        doomed = [digest for digest in looked_at if digest not in needed]
        return _sweep(store, doomed, time.time() - younger_than_seconds)


@dataclass(frozen=True, slots=True)
class Loose:
    """Content that nothing refers to, as files; none of it may go while manifests are `unreadable`."""

    files: dict[Digest, Footprint]
    unreadable: tuple[Digest, ...] = ()


def find_loose(store: Store) -> Loose:
    """What a full collection would look at, at this moment; nothing is changed.

    In a store that can only be read, what running pulls rely on is not known and counts as loose.
    """
    needed, unreadable = reached(store, leases_now(store.layout).held)
    return Loose(loose_files(store, needed), tuple(sorted(unreadable)))


def loose_files(store: Store, needed: Container[Digest]) -> dict[Digest, Footprint]:
    """The files of all blobs but those that are needed."""
    loose = [digest for digest in blob_digests(store) if digest not in needed]
    found = [(digest, measure(store.layout.blob(digest))) for digest in loose]
    return {digest: file for digest, file in found if file is not None}


def leases_now(layout: Layout) -> Leases:
    """The leases, without a change to the store; none where it can only be read."""
    with ExitStack() as stack:
        try:
            stack.enter_context(layout.lock())
        except AccessDenied:
            return Leases((), ())
        return read_leases(layout)


def delete_blob(store: Store, digest: Digest) -> None:
    """Delete one blob at once. Raises: BlobUnknown; Conflict when something needs it, or may."""
    with store.layout.lock():
        store.describe(digest)
        needed, unreadable = _mark(store)
        if unreadable or digest in needed:
            raise Conflict(f"`{digest}` is still needed", hint="remove the models that use it first")
        store.layout.disk.unlink(store.layout.blob(digest))


def _mark(store: Store) -> tuple[set[Digest], set[Digest]]:
    """What must stay, and the manifests that cannot say what they need."""
    return reached(store, leased(store.layout))


def reached(store: Store, held: Iterable[Descriptor]) -> tuple[set[Digest], set[Digest]]:
    """What names, links and leases on `held` need; the named manifests that cannot say what they need.

    A leased manifest may be absent or damaged: its pull is on the way to put that right.
    """
    rooted = reach(store, [entry.descriptor for entry in store.entries()])
    pulled = reach(store, held)
    needed = {item.digest for item in (*rooted.content, *pulled.content)}
    return needed, {item.digest for item in rooted.unreadable}


def _sweep(store: Store, digests: Iterable[Digest], before_seconds: float) -> Collected:
    swept: dict[Digest, Footprint] = {}
    for digest in digests:
        file = measure(store.layout.blob(digest))
        if file is not None and file.changed_seconds <= before_seconds:
            store.layout.disk.unlink(file.path)
            swept[digest] = file
    size_bytes = sum(file.size_bytes for file in swept.values())
    return Collected(tuple(swept), size_bytes, files=tuple(swept.values()))


def blob_digests(store: Store) -> list[Digest]:
    """The digests of all files under `blobs/` that are named by one."""
    found = []
    with translated(store.layout.blobs):
        for path in store.layout.blobs.glob("*/*"):
            try:
                found.append(Digest.parse(f"{path.parent.name}:{path.name}"))
            except InvalidDigest:
                continue  # not ours
    return found
