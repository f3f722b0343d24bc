"""Prune: what nothing refers to goes, when it is old enough that nobody will come back for it.

    unreferenced blobs     a day     a push to the embedded registry brings its blobs before their manifest
    partial downloads      a week    an interrupted pull goes on from them; never while one is running
    uploads                a day     the embedded registry waits so long for the rest
    damaged files          at once   `verify` moved them aside
    void leases, drafts    at once   their processes are gone

Nothing is removed by its age alone: this flow is asked for, and says what goes.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from qwenctl.store.footprint import Footprint, freed_disk_bytes, measure
from qwenctl.store.gc import Loose, collect, find_loose, leases_now
from qwenctl.store.leftovers import Kind, Leftover, is_busy, list_leftovers, remove
from qwenctl.store.store import Store

DAY_SECONDS: Final = 86_400.0
BLOB: Final = "blob"
LEASE: Final = "lease"
_ORDER: Final = (BLOB, Kind.PARTIAL, Kind.UPLOAD, Kind.DAMAGED, Kind.DRAFT, LEASE)


@dataclass(frozen=True, slots=True)
class Ages:
    """How long each kind must have been left alone before it goes, in seconds."""

    blob: float = DAY_SECONDS
    partial: float = 7 * DAY_SECONDS
    upload: float = DAY_SECONDS
    damaged: float = 0.0

    @classmethod
    def of(cls, seconds: float) -> Self:
        """One age for all; an upload keeps its day: its file does not tell whether a client is at it."""
        return cls(seconds, seconds, max(seconds, DAY_SECONDS), seconds)


class Removable(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that nothing refers to. `kept` is why it stays; null when it goes.

    `digest` is null for uploads, drafts and leases. `freed_bytes` is what the disk gets back: fewer than
    `size_bytes` for a file with holes, none for one that has another name.
    """

    kind: str
    name: str
    digest: str | None = None
    size_bytes: int
    freed_bytes: int
    age_seconds: float
    kept: str | None = None


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `prune --json`: what goes, or went, and what stays and why.

    `unreadable` are the manifests because of which no blob may go: what they need is not known.
    """

    dry_run: bool
    removed: list[Removable]
    freed_bytes: int
    kept: list[Removable]
    unreadable: list[str]


def plan(store: Store, ages: Ages, loose: Loose | None = None) -> PruneReport:
    """What a prune would remove now. `loose` is what nothing refers to, for a caller that knows."""
    loose = loose if loose is not None else find_loose(store)
    now = time.time()
    listed: list[tuple[Removable, tuple[Footprint, ...]]] = []
    for digest, file in loose.files.items():
        age = now - file.changed_seconds
        kept = "a manifest cannot be read" if loose.unreadable else _young(age, ages.blob)
        listed.append((_removable(BLOB, digest.hex, str(digest), (file,), age, kept), (file,)))
    for leftover in list_leftovers(store.layout):
        listed.append((_of_leftover(store, leftover, ages, now), leftover.files))
    for path in leases_now(store.layout).void:
        if (lease := measure(path)) is not None:
            age = now - lease.changed_seconds
            listed.append((_removable(LEASE, path.name, None, (lease,), age, None), (lease,)))
    going = [file for item, files in listed if item.kept is None for file in files]
    return PruneReport(
        dry_run=True,
        removed=_sorted(item for item, _ in listed if item.kept is None),
        freed_bytes=freed_disk_bytes(going),
        kept=_sorted(item for item, _ in listed if item.kept is not None),
        unreadable=[str(digest) for digest in loose.unreadable],
    )


def prune(store: Store, ages: Ages) -> PruneReport:
    """Remove what is old enough; what really went.

    A pull that begins meanwhile loses nothing: blobs go under the lock of the index, which a pull's lease
    waits for, and a partial download only under the lock that a download holds.
    Raises: Malformed for a lease or an index that cannot be understood.
    """
    now = time.time()
    void = [file for path in leases_now(store.layout).void if (file := measure(path)) is not None]
    collected = collect(store, younger_than_seconds=ages.blob)
    gone = list(zip(collected.digests, collected.files, strict=True))
    removed = [
        _removable(BLOB, digest.hex, str(digest), (file,), now - file.changed_seconds, None)
        for digest, file in gone
    ]
    removed += [
        _removable(LEASE, file.path.name, None, (file,), now - file.changed_seconds, None) for file in void
    ]
    files = [file for _, file in gone] + void
    for leftover in list_leftovers(store.layout):
        item = _of_leftover(store, leftover, ages, now)
        if item.kept is None and remove(store.layout, leftover):
            removed.append(item)
            files += leftover.files
    left = plan(store, ages)
    return PruneReport(
        dry_run=False,
        removed=_sorted(removed),
        freed_bytes=freed_disk_bytes(files),
        kept=left.kept,
        unreadable=left.unreadable,
    )


def _of_leftover(store: Store, leftover: Leftover, ages: Ages, now: float) -> Removable:
    allowed = {Kind.PARTIAL: ages.partial, Kind.UPLOAD: ages.upload, Kind.DAMAGED: ages.damaged}
    age = now - leftover.changed_seconds
    kept = _young(age, allowed.get(leftover.kind, 0.0))
    if kept is None and is_busy(store.layout, leftover):
        kept = "a download is at work on it"
    digest = str(leftover.digest) if leftover.digest else None
    return _removable(leftover.kind.value, leftover.name, digest, leftover.files, age, kept)


def _removable(
    kind: str, name: str, digest: str | None, files: Iterable[Footprint], age: float, kept: str | None
) -> Removable:
    listed = list(files)
    return Removable(
        kind=kind,
        name=name,
        digest=digest,
        size_bytes=sum(file.size_bytes for file in listed),
        freed_bytes=freed_disk_bytes(listed),
        age_seconds=round(max(age, 0.0), 3),
        kept=kept,
    )


def _young(age_seconds: float, allowed_seconds: float) -> str | None:
    return "too young" if age_seconds < allowed_seconds else None


def _sorted(items: Iterable[Removable]) -> list[Removable]:
    return sorted(items, key=lambda item: (_ORDER.index(item.kind), -item.age_seconds, item.name))
