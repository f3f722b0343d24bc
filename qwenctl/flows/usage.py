"""Usage: what a store takes on disk and for what, each file once; the total is what `du` says."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from qwenctl.errors import InvalidDigest
from qwenctl.flows.models import models_of
from qwenctl.flows.prune import BLOB, Ages, plan
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import free_bytes
from qwenctl.store.footprint import Footprint, total_disk_bytes, walk
from qwenctl.store.gc import Loose, leases_now, loose_files
from qwenctl.store.leftovers import Kind, Leftover, is_busy, list_leftovers
from qwenctl.store.reach import Tree, reach
from qwenctl.store.store import Store

_NEEDED: Final = "needed"
_OTHER: Final = "other"
_PARTS: Final = (_NEEDED, BLOB, Kind.PARTIAL.value, Kind.UPLOAD.value, Kind.DAMAGED.value, _OTHER)


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs: its content by size, and how much of it other models need too.

    `names` are all names of this content. `unique_bytes` is what goes with the last of them. `incomplete`
    says that content is missing, or not known because a manifest cannot be read.
    """

    names: list[str]
    id: str
    size_bytes: int
    shared_bytes: int
    unique_bytes: int
    incomplete: bool = False


class PartialUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A download that is not whole. `present_bytes` have come; `active` says that it runs now."""

    digest: str
    present_bytes: int
    disk_bytes: int
    changed: datetime
    active: bool


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the store: how many things, their length, what they take, what a prune would free."""

    count: int
    size_bytes: int
    disk_bytes: int
    reclaimable_bytes: int = 0


class UsageReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `df --json`. The `disk_bytes` of all parts add up to `disk_bytes`.

    `blobs` are those that models need; `other` is the index, locks, leases, directories and what is not ours.
    `later_bytes` would become reclaimable with time, or with `prune --older-than 0`.
    """

    path: str
    models: list[ModelUsage]
    partials: list[PartialUsage]
    blobs: Share
    unreferenced: Share
    partial_downloads: Share
    uploads: Share
    damaged: Share
    other: Share
    disk_bytes: int
    reclaimable_bytes: int
    later_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class _Content:
    """What the models of a store need, and which blobs neither they nor running pulls do."""

    models: list[ModelUsage]
    loose: Loose


def usage(store: Store) -> UsageReport:
    """What the store takes at this moment; nothing is changed. Raises: Malformed for a damaged index."""
    files = _once(walk(store.path.resolve()))
    content = _content(store, files)
    leftovers = list_leftovers(store.layout)
    prunable = plan(store, Ages(), content.loose)
    parts = _parts(store.path.resolve(), files, content.loose, leftovers)
    freed: Counter[str] = Counter()
    for item in prunable.removed:
        freed[item.kind] += item.freed_bytes
    beside = {file.path.name for item in leftovers for file in item.files if file.path.name != item.name}
    shares = {name: _share(parts[name], beside, freed[name]) for name in _PARTS}
    return UsageReport(
        path=str(store.path),
        models=content.models,
        partials=[_partial(store, item) for item in leftovers if item.kind is Kind.PARTIAL],
        blobs=shares[_NEEDED],
        unreferenced=shares[BLOB],
        partial_downloads=shares[Kind.PARTIAL.value],
        uploads=shares[Kind.UPLOAD.value],
        damaged=shares[Kind.DAMAGED.value],
        other=shares[_OTHER],
        disk_bytes=total_disk_bytes(files),
        reclaimable_bytes=prunable.freed_bytes,
        later_bytes=sum(item.freed_bytes for item in prunable.kept),
        free_bytes=free_bytes(store.path),
    )


def _content(store: Store, files: list[Footprint]) -> _Content:
    tree = Tree(store)
    roots: dict[Digest, Descriptor] = {}
    names: dict[Digest, set[str]] = defaultdict(set)
    for model in models_of(store.entries()):
        roots[model.root.digest] = model.root
        names[model.root.digest].add(model.name)
    content = {digest: {item.digest: item for item in tree.under(root)} for digest, root in roots.items()}
    users = Counter(digest for items in content.values() for digest in items)
    sizes = {file.path.name: file.size_bytes for file in files}
    unread = {descriptor.digest for descriptor, _ in tree.unread.values()}
    models = []
    for digest, items in content.items():
        here = all(
            sizes.get(item.digest.hex) == item.size for item in items.values() if item.is_distributable
        )
        size_bytes = sum(item.size for item in items.values())
        unique_bytes = sum(item.size for item in items.values() if users[item.digest] == 1)
        models.append(
            ModelUsage(
                names=sorted(names[digest]),
                id=str(digest),
                size_bytes=size_bytes,
                shared_bytes=size_bytes - unique_bytes,
                unique_bytes=unique_bytes,
                incomplete=not here or not unread.isdisjoint(items),
            )
        )
    pulled = {item.digest for item in reach(store, leases_now(store.layout).held).content}
    loose = Loose(loose_files(store, users.keys() | pulled), tuple(sorted(unread)))
    return _Content(sorted(models, key=lambda model: model.names), loose)


def _parts(
    root: Path, files: Iterable[Footprint], loose: Loose, leftovers: Iterable[Leftover]
) -> dict[str, list[Footprint]]:
    """The files by the part of the store that they are counted under."""
    kinds = {file.path.name: item.kind.value for item in leftovers for file in item.files}
    parts: dict[str, list[Footprint]] = defaultdict(list)
    for file in files:
        match file.path.relative_to(root).parts:
            case ("blobs", algorithm, name) if not file.is_directory:
                parts[_blob_part(f"{algorithm}:{name}", loose)].append(file)
            case ("ingest", name) if not file.is_directory:
                parts[kinds.get(name, _OTHER)].append(file)
            case _:
                parts[_OTHER].append(file)
    return parts


def _blob_part(text: str, loose: Loose) -> str:
    try:
        return BLOB if Digest.parse(text) in loose.files else _NEEDED
    except InvalidDigest:
        return _OTHER


def _share(files: Iterable[Footprint], beside: Set[str], reclaimable_bytes: int) -> Share:
    """One part; what lies `beside` a leftover, such as a journal, is no thing of its own."""
    listed = list(files)
    things = [file for file in listed if not (file.is_directory or file.path.name in beside)]
    return Share(
        count=len(things),
        size_bytes=sum(file.size_bytes for file in things),
        disk_bytes=total_disk_bytes(listed),
        reclaimable_bytes=reclaimable_bytes,
    )


def _partial(store: Store, leftover: Leftover) -> PartialUsage:
    return PartialUsage(
        digest=str(leftover.digest),
        present_bytes=leftover.present_bytes,
        disk_bytes=leftover.disk_bytes,
        changed=datetime.fromtimestamp(int(leftover.changed_seconds), UTC),
        active=is_busy(store.layout, leftover),
    )


def _once(files: Iterable[Footprint]) -> list[Footprint]:
    """The files, each under its first name alone."""
    found: dict[tuple[int, int], Footprint] = {}
    for file in files:
        found.setdefault(file.file, file)
    return list(found.values())
