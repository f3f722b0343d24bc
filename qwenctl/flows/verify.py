"""Verify: read every blob again and say which are not what their names say; repair fetches those again.

    models → manifests → their content, each blob once → hashed side by side → what is wrong is moved aside
           → with repair: fetched again from where the model came → manifests last

Damaged content is out of service from the moment it is found, repaired or not: the next pull brings it.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from typing import Final

import msgspec

from qwenctl.errors import Interrupted, Malformed
from qwenctl.flows.models import Model, models_of
from qwenctl.flows.repair import Repairer
from qwenctl.flows.side_by_side import side_by_side
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.store.check import Finding, State, examine, list_blobs, readable_entries
from qwenctl.store.footprint import measure
from qwenctl.store.reach import Tree
from qwenctl.store.store import Store

JOBS: Final = max(2, min(8, os.cpu_count() or 1))
"""Blobs that are read at the same time: one a processor, for hashing takes longer than a disk of today."""


@dataclass(frozen=True, slots=True)
class CheckStarted:
    """So many blobs will be read, of so many bytes together."""

    blobs: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CheckProgress:
    """Bytes that have been read, of all blobs together."""

    position: int


@dataclass(frozen=True, slots=True)
class BlobChecked:
    """One blob was looked at."""

    digest: Digest
    size_bytes: int
    state: State


@dataclass(frozen=True, slots=True)
class CheckFinished:
    """Everything was looked at; what follows is the repair."""


CheckEvent = CheckStarted | CheckProgress | BlobChecked | CheckFinished
CheckObserver = Callable[[CheckEvent], None]
"""Told what happens, one event at a time, from several threads in turn."""


class DamagedBlob(msgspec.Struct, kw_only=True):
    """A blob that is not what it should be, or was not before it was repaired.

    `models` is empty when nothing needs it. `moved_to` is where its damaged file is kept. `problem` is why it
    was not repaired.
    """

    digest: str
    state: str
    detail: str = ""
    size: int | None = None
    manifest: bool = False
    models: list[str] = []
    moved_to: str | None = None
    repaired: bool = False
    problem: str | None = None


class Fault(msgspec.Struct, frozen=True):
    """Something wrong that is no blob: an entry of the index, a manifest that breaks its format."""

    where: str
    problem: str
    models: list[str] = []


class VerifyReport(msgspec.Struct, kw_only=True):
    """The data of `verify --json`. `strays` are files among the blobs that are none: they harm nobody.

    `unreferenced_blobs`, part of `blobs`, are those that no model needs; null when they were not looked at.
    """

    models: int
    blobs: int
    size_bytes: int
    damaged: list[DamagedBlob]
    faults: list[Fault]
    unreferenced_blobs: int | None = None
    strays: list[str] = []

    @property
    def wrong(self) -> list[DamagedBlob]:
        """The blobs that are still wrong."""
        return [blob for blob in self.damaged if not blob.repaired]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong any more."""
        return not self.wrong and not self.faults


@dataclass(slots=True)
class _Blob:
    """A blob to be checked, and the models that need it. `sizes` is empty when any is right."""

    digest: Digest
    descriptor: Descriptor | None = None
    sizes: set[int] = field(default_factory=set)
    models: list[Model] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return sorted({model.name for model in self.models})


@dataclass(frozen=True, slots=True)
class _Checked:
    blob: _Blob
    finding: Finding
    moved: Path | None


def ignore(event: CheckEvent) -> None:
    """An observer that does not care."""


def verify_all(
    store: Store, observe: CheckObserver = ignore, repairer: Repairer | None = None, jobs: int = JOBS
) -> VerifyReport:
    """Check all that is in the store, also what nothing refers to, and the index itself.

    With a `repairer` what is wrong is fetched again.
    """
    entries, problems = readable_entries(store.layout)
    models = models_of(entries)
    report = _verify(store, models, True, observe, repairer, jobs)
    report.faults[:0] = [Fault("index.json", problem) for problem in problems]
    return report


def verify(
    store: Store,
    models: Sequence[Model],
    observe: CheckObserver = ignore,
    repairer: Repairer | None = None,
    jobs: int = JOBS,
) -> VerifyReport:
    """Check all content of some models. See `verify_all`."""
    return _verify(store, models, False, observe, repairer, jobs)


def _verify(
    store: Store,
    models: Sequence[Model],
    everything: bool,
    observe: CheckObserver,
    repairer: Repairer | None,
    jobs: int,
) -> VerifyReport:
    tree = Tree(store)
    blobs = _needed(tree, models)
    if repairer is not None:
        blobs = _rescue(tree, models, blobs, repairer)
    digests, strays = list_blobs(store.layout) if everything else ([], [])
    loose = [_Blob(digest) for digest in digests if digest not in blobs]
    checked = _check_all(store, [*blobs.values(), *loose], observe, jobs)
    damaged = _without_removed(store, [item for item in checked if item.finding.state is not State.OK])
    rows = {item.blob.digest: _row(item) for item in damaged}
    if repairer is not None:
        _repair(repairer, damaged, rows)
    return VerifyReport(
        models=len({model.root.digest for model in models}),
        blobs=len(checked),
        size_bytes=sum(item.finding.size_bytes for item in checked if item.finding.state is State.OK),
        damaged=sorted(
            rows.values(), key=lambda row: (not row.models, row.models, not row.manifest, row.digest)
        ),
        faults=_faults(tree, blobs, rows),
        unreferenced_blobs=len(loose) if everything else None,
        strays=[str(path) for path in strays],
    )


def _needed(tree: Tree, models: Sequence[Model]) -> dict[Digest, _Blob]:
    """Every blob under the models, with who needs it. A layer that may not be passed on may be absent."""
    blobs: dict[Digest, _Blob] = {}
    for model in models:
        for item in tree.under(model.root):
            blob = blobs.setdefault(item.digest, _Blob(item.digest))
            if blob.descriptor is None or item.is_manifest:
                blob.descriptor = item
            blob.sizes.add(item.size)
            blob.models.append(model)
    return blobs


def _rescue(
    tree: Tree, models: Sequence[Model], blobs: dict[Digest, _Blob], repairer: Repairer
) -> dict[Digest, _Blob]:
    """The blobs under the models once the manifests that cannot be read have been fetched again."""
    tried: set[Digest] = set()
    while unread := [item for item, _ in tree.unread.values() if item.digest not in tried]:
        for descriptor in unread:
            tried.add(descriptor.digest)
            raw = repairer.fetch_manifest(descriptor, blobs[descriptor.digest].models)
            if raw is not None:
                try:
                    tree.add(descriptor, raw)
                except Malformed:
                    continue  # it is so at its registry: told as a fault
        blobs = _needed(tree, models)
    return blobs


def _check_all(store: Store, blobs: list[_Blob], observe: CheckObserver, jobs: int) -> list[_Checked]:
    """Every blob, read and told; the longest first, so that no single one is left for the end."""
    sizes = {blob.digest: _readable_bytes(store, blob) for blob in blobs}
    checked: list[_Checked] = []
    lock, position = Lock(), 0
    observe(CheckStarted(len(blobs), sum(sizes.values())))

    def work(blob: _Blob, stop: Event) -> None:
        def tell(count: int) -> None:
            nonlocal position
            if stop.is_set():
                raise Interrupted("the check was stopped")
            with lock:
                position += count
                observe(CheckProgress(position))

        finding, moved = examine(store.layout, blob.digest, blob.sizes or None, tell)
        with lock:
            checked.append(_Checked(blob, finding, moved))
            observe(BlobChecked(blob.digest, finding.size_bytes, finding.state))

    side_by_side(work, sorted(blobs, key=lambda blob: -sizes[blob.digest]), jobs)
    observe(CheckFinished())
    return checked


def _readable_bytes(store: Store, blob: _Blob) -> int:
    """How much of a blob will be read: nothing when its size is wrong already."""
    file = measure(store.layout.blob(blob.digest))
    return file.size_bytes if file and (not blob.sizes or file.size_bytes in blob.sizes) else 0


def _without_removed(store: Store, checked: list[_Checked]) -> list[_Checked]:
    """Without what may be missing: it need not be here, or what needed it was removed meanwhile."""
    if not checked:
        return []
    roots = {entry.descriptor.digest for entry in readable_entries(store.layout)[0]}

    def counts(item: _Checked) -> bool:
        if item.finding.state is not State.MISSING:
            return True
        if item.blob.descriptor is None or not item.blob.descriptor.is_distributable:
            return False
        return any(model.root.digest in roots for model in item.blob.models)

    return [item for item in checked if counts(item)]


def _row(item: _Checked) -> DamagedBlob:
    blob, finding = item.blob, item.finding
    return DamagedBlob(
        digest=str(blob.digest),
        state=finding.state.value,
        detail=finding.detail,
        size=blob.descriptor.size if blob.descriptor else None,
        manifest=blob.descriptor is not None and blob.descriptor.is_manifest,
        models=blob.names,
        moved_to=str(item.moved) if item.moved else None,
    )


def _repair(repairer: Repairer, damaged: list[_Checked], rows: dict[Digest, DamagedBlob]) -> None:
    """Bring the damaged blobs back, as far as they can be had; what nothing needs may stay away."""
    wanted = []
    for item in damaged:
        row = rows[item.blob.digest]
        if item.finding.state is not State.MISSING and item.moved is None:
            row.problem = "the damaged file could not be moved aside"
        elif item.blob.descriptor is None:
            row.repaired = True
        else:
            wanted.append((item.blob.descriptor, item.blob.models))
    for digest, problem in repairer.restore(wanted).items():
        rows[digest].repaired, rows[digest].problem = problem is None, problem


def _faults(tree: Tree, blobs: dict[Digest, _Blob], rows: dict[Digest, DamagedBlob]) -> list[Fault]:
    """Manifests whose bytes are those that were named, and which are no manifests all the same."""
    return [
        Fault(f"manifest {descriptor.digest}", error.message, blobs[descriptor.digest].names)
        for descriptor, error in tree.unread.values()
        if descriptor.digest not in rows
    ]
