"""Verify and repair, over stores as registries."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from qwenctl.errors import Unreachable
from qwenctl.flows.copy import BlobFinished, CopyEvent
from qwenctl.flows.models import Model, models_of
from qwenctl.flows.pull import pull
from qwenctl.flows.repair import Repairer
from qwenctl.flows.verify import (
    BlobChecked,
    CheckEvent,
    CheckFinished,
    CheckProgress,
    CheckStarted,
    DamagedBlob,
    VerifyReport,
    verify,
    verify_all,
)
from qwenctl.oci.descriptor import OCI_EMPTY, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_index, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import MemoryTarget, Source, content_of
from qwenctl.store.store import Store
from tests.builders import index_of, model
from tests.contracts.target import push_bytes
from tests.store.store_builders import damage, prove

ONE = Reference.parse("one:v1")
TWO = Reference.parse("two:v1")


@pytest.fixture
def remote() -> MemoryTarget:
    """A registry with two models that share their licence, and an index over them."""
    target = MemoryTarget()
    model(1, 3 << 20).put(target, ONE)
    model(2).put(target, TWO)
    return target


@pytest.fixture
def store(tmp_path: Path, remote: MemoryTarget) -> Store:
    """A store with both models."""
    store = Store.open(tmp_path / "store")
    for reference in (ONE, TWO):
        pull(reference, remote, store)
    return store


def opener(source: Source) -> Callable[[Reference], AbstractContextManager[Source]]:
    """Opens the same source for every reference."""
    return lambda reference: nullcontext(source)


def repaired(store: Store, source: Source, heard: list[CopyEvent] | None = None) -> VerifyReport:
    """Verify all, with repair from `source`."""
    observe = heard.append if heard is not None else lambda event: None
    with Repairer(store, opener(source), observe) as repairer:
        return verify_all(store, repairer=repairer)


def by_digest(report: VerifyReport) -> dict[str, DamagedBlob]:
    """The damaged blobs."""
    return {blob.digest: blob for blob in report.damaged}


def path_of(store: Store, descriptor: Descriptor) -> Path:
    """The file of a blob, whole or not."""
    return store.layout.blob(descriptor.digest)


def test_a_sound_store(store: Store) -> None:
    """Every blob is read once, however many models share it, and the events tell all of it."""
    heard: list[CheckEvent] = []
    report = verify_all(store, heard.append)
    assert report.is_sound
    assert (report.models, report.blobs, report.unreferenced_blobs) == (2, 7, 0)
    usage = store.usage()
    assert (report.blobs, report.size_bytes) == (usage.blobs, usage.size_bytes)
    assert heard[0] == CheckStarted(7, usage.size_bytes)
    assert heard[-1] == CheckFinished()
    positions = [event.position for event in heard if isinstance(event, CheckProgress)]
    assert positions == sorted(positions) and positions[-1] == usage.size_bytes
    assert len({event.digest for event in heard if isinstance(event, BlobChecked)}) == 7


def test_an_empty_store(tmp_path: Path) -> None:
    """Nothing is checked, and all is well."""
    report = verify_all(Store.open(tmp_path))
    assert (report.is_sound, report.models, report.blobs) == (True, 0, 0)


def test_damage_is_named_with_the_models_it_harms(store: Store) -> None:
    """State, who needs it, where it was moved to; a model that was not asked for is not looked at."""
    one, two = model(1, 3 << 20), model(2)
    weights, license_ = one.manifest.layers
    damage(path_of(store, weights), 2 << 20)
    path_of(store, license_).unlink()
    path_of(store, two.manifest.config).chmod(0o600)
    path_of(store, two.manifest.config).write_bytes(b"")
    models = [item for item in models_of(store.entries()) if item.reference == ONE]
    only = verify(store, models)
    assert [(blob.digest, blob.state) for blob in only.damaged] == [
        (str(item.digest), state)
        for item, state in sorted(
            [(weights, "wrong digest"), (license_, "missing")], key=lambda pair: str(pair[0].digest)
        )
    ]
    assert only.unreferenced_blobs is None
    found = by_digest(verify_all(store))
    assert {blob.state for blob in found.values()} == {"missing", "wrong size"}
    assert found[str(license_.digest)].models == ["one:v1", "two:v1"]
    assert found[str(weights.digest)].models == ["one:v1"]
    assert not store.exists(weights)
    assert len(list(store.layout.ingests.iterdir())) == 2


def test_repair_fetches_only_what_is_damaged(store: Store, remote: MemoryTarget) -> None:
    """One blob comes, verified; afterwards all is sound, and the evidence is still there."""
    weights = model(1, 3 << 20).manifest.layers[0]
    damage(path_of(store, weights))
    heard: list[CopyEvent] = []
    report = repaired(store, remote, heard)
    assert report.is_sound
    assert [blob.repaired for blob in report.damaged] == [True]
    assert [event.descriptor for event in heard if isinstance(event, BlobFinished)] == [weights]
    prove(store)
    assert path_of(store, weights).stat().st_mode & 0o777 == 0o444
    assert store.usage().damaged_bytes == weights.size
    assert verify_all(store).damaged == []


def test_the_next_pull_brings_what_verify_found(store: Store, remote: MemoryTarget) -> None:
    """Damage that no look at the file shows is out of service, so a pull sees that it is missing."""
    weights = model(1, 3 << 20).manifest.layers[0]
    sealed = path_of(store, weights).stat()
    damage(path_of(store, weights))
    path_of(store, weights).chmod(0o444)
    os.utime(path_of(store, weights), ns=(sealed.st_atime_ns, sealed.st_mtime_ns))
    assert pull(ONE, remote, store).up_to_date
    assert not verify_all(store).is_sound
    pulled = pull(ONE, remote, store)
    assert (pulled.up_to_date, pulled.blobs_moved, pulled.moved_bytes) == (False, 1, weights.size)
    assert verify_all(store).is_sound


@pytest.mark.parametrize("nested", [False, True])
def test_a_manifest_and_what_it_lists_are_repaired_together(tmp_path: Path, nested: bool) -> None:
    """What a damaged manifest lists is learnt from the registry, checked, fetched, and then it goes in."""
    remote, one, two = MemoryTarget(), model(1), model(2)
    for item in (one, two):
        item.put(remote)
    inner = index_of(one, two)
    remote.push(inner.descriptor, content_of(inner.raw))
    root = build_index((inner.descriptor,)) if nested else inner
    remote.push(root.descriptor, content_of(root.raw))
    remote.tag(root.descriptor, ONE)
    store = Store.open(tmp_path / "store")
    pull(ONE, remote, store)
    for digest in {item.digest for item in (root.descriptor, inner.descriptor, *index_of(one).manifests)}:
        damage(store.layout.blob(digest))
    damage(path_of(store, one.manifest.layers[0]))
    path_of(store, two.manifest.descriptor).unlink()
    path_of(store, two.manifest.layers[0]).unlink()
    report = repaired(store, remote)
    assert report.is_sound
    assert len(report.damaged) == (6 if nested else 5)
    prove(store)


def test_what_cannot_be_had_is_told_blob_by_blob(store: Store, remote: MemoryTarget) -> None:
    """A registry that has one blob and not the other repairs the one."""
    one, two = model(1, 3 << 20), model(2)
    damage(path_of(store, one.manifest.layers[0]))
    damage(path_of(store, two.manifest.layers[0]))
    half = MemoryTarget()
    two.put(half)
    report = repaired(store, half)
    found = by_digest(report)
    assert found[str(two.manifest.layers[0].digest)].repaired
    lost = found[str(one.manifest.layers[0].digest)]
    assert (lost.repaired, report.wrong) == (False, [lost])
    assert lost.problem is not None and "is not here" in lost.problem


def test_a_registry_that_lies_repairs_nothing(store: Store) -> None:
    """What it sends is verified like any download."""
    weights = model(1, 3 << 20).manifest.layers[0]
    damage(path_of(store, weights))

    class Liar(MemoryTarget):
        def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]
            return content_of(bytes(descriptor.size))(offset)

    report = repaired(store, Liar())
    assert report.wrong[0].problem is not None and "damaged" in report.wrong[0].problem
    assert not store.exists(weights)


def test_a_registry_that_is_away_is_asked_once(store: Store) -> None:
    """The others of its blobs do not wait for it again."""
    for item in (model(1, 3 << 20), model(2)):
        for descriptor in item.manifest.successors:
            path_of(store, descriptor).unlink(missing_ok=True)
    asked: list[Reference] = []

    @contextmanager
    def away(reference: Reference) -> Iterator[Source]:
        asked.append(reference)
        raise Unreachable("nobody answers")
        yield

    with Repairer(store, away) as repairer:
        report = verify_all(store, repairer=repairer)
    assert {blob.problem for blob in report.wrong} == {"nobody answers"}
    assert len(report.wrong) == 5
    assert len(asked) <= 2 * 4  # two repositories, four threads that may ask before the first answer


def test_names_of_other_tools_have_no_registry(tmp_path: Path) -> None:
    """A layout of another tool is checked like ours; where its content came from is not known."""
    store = Store.open(tmp_path / "store")
    made = model(1)
    made.put(store)
    entry = made.manifest.descriptor.annotate(**{"org.opencontainers.image.ref.name": "latest"}).render()
    (store.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    damage(path_of(store, made.manifest.layers[0]))
    (blob,) = repaired(store, MemoryTarget()).wrong
    assert (blob.models, blob.problem) == (["latest"], "its name belongs to no registry")


def test_pinned_models_are_repaired_too(store: Store, remote: MemoryTarget) -> None:
    """What is kept by its digest alone knows its repository."""
    made = model(3)
    made.put(remote)
    pinned = Reference.parse(f"three@{made.manifest.descriptor.digest}")
    pull(pinned, remote, store)
    damage(path_of(store, made.manifest.descriptor))
    report = repaired(store, remote)
    assert report.is_sound
    assert report.damaged[0].models == [pinned.familiar()]
    assert report.damaged[0].manifest


def test_what_nothing_refers_to_is_checked_with_all(store: Store) -> None:
    """Whole, it is counted; damaged, it is moved aside, which is all the repair that it needs."""
    loose = [push_bytes(store, raw) for raw in (b"loose", b"broken")]
    damage(path_of(store, loose[1]))
    stray = store.layout.blobs / "sha256" / "README"
    stray.touch()
    report = repaired(store, MemoryTarget())
    assert (report.unreferenced_blobs, report.strays) == (2, [str(stray)])
    (blob,) = report.damaged
    assert (blob.digest, blob.models, blob.repaired) == (str(loose[1].digest), [], True)
    assert report.is_sound
    assert not verify_all(store).damaged


def test_documents_that_break_their_format(store: Store, remote: MemoryTarget) -> None:
    """An entry of the index and a manifest that is none are faults that no download puts right."""
    raw = b'{"schemaVersion": 2, "config": {}}'
    broken = Descriptor(model(1).manifest.media_type, Digest.of(raw), len(raw))
    path_of(store, broken).write_bytes(raw)
    index = store.path / "index.json"
    document = json.loads(index.read_text())
    named = broken.annotate(**{"org.opencontainers.image.ref.name": "docker.io/ai/bad:v1"}).render()
    document["manifests"] += [named, {}]
    index.write_text(json.dumps(document))
    report = repaired(store, remote)
    assert not report.is_sound
    assert not report.damaged
    where = {fault.where: fault.models for fault in report.faults}
    assert where == {"index.json": [], f"manifest {broken.digest}": ["bad:v1"]}


def test_layers_that_may_not_travel_may_be_absent(tmp_path: Path) -> None:
    """A foreign layer that is not here is no damage."""
    store = Store.open(tmp_path / "store")
    config = push_bytes(store, b"{}", OCI_EMPTY)
    foreign = Descriptor(
        "application/vnd.oci.image.layer.nondistributable.v1.tar", Digest.of(b"elsewhere"), 9
    )
    manifest = build_manifest(config, (foreign,))
    store.push(manifest.descriptor, content_of(manifest.raw))
    store.tag(manifest.descriptor, ONE)
    assert verify_all(store).is_sound


def test_what_was_removed_meanwhile_is_not_missed(store: Store) -> None:
    """A model that another process removes while it is checked is no damage."""
    models = [*models_of(store.entries()), Model("gone:v1", None, Descriptor.of(b"gone", OCI_EMPTY))]
    assert verify(store, models).is_sound
