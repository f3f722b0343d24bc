"""Purge: every model goes, and everything that was left lying about; the store stays, empty and whole."""

import msgspec

from qwenctl.flows.prune import Ages, prune
from qwenctl.store.footprint import total_disk_bytes, walk
from qwenctl.store.gc import leases_now
from qwenctl.store.store import Store


class PurgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `purge --json`: the names that went, blobs and leftovers, and what stays and why.

    `freed_bytes` is what the disk got back. `stopped` are the models that were unloaded for it.
    """

    path: str
    untagged: list[str]
    removed: int
    freed_bytes: int
    kept: list[str]
    stopped: list[str]


def is_busy(store: Store) -> bool:
    """Whether a pull, a push or a registry holds content of the store now."""
    return bool(leases_now(store.layout).held)


def purge(store: Store, stopped: list[str]) -> PurgeReport:
    """Remove every name, then what nothing refers to; what a running pull needs stays.

    Raises: Malformed, AccessDenied.
    """
    before = total_disk_bytes(walk(store.path))
    names = [entry.reference.familiar() for entry in store.entries() if entry.reference is not None]
    store.layout.change(lambda entries: ())
    report = prune(store, Ages.of(0))
    return PurgeReport(
        path=str(store.path),
        untagged=sorted(names),
        removed=len(report.removed),
        freed_bytes=max(0, before - total_disk_bytes(walk(store.path))),
        kept=[f"{item.name}: {item.kept}" for item in report.kept],
        stopped=stopped,
    )
