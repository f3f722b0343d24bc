"""Collection: what stays, what goes, what makes it stay its hand."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenctl.errors import BlobUnknown, Conflict, Malformed
from qwenctl.oci.descriptor import OCI_EMPTY, OCI_MANIFEST, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_index, build_manifest
from qwenctl.oci.target import content_of
from qwenctl.store.disk import Disk
from qwenctl.store.gc import Collected, collect, delete_blob
from qwenctl.store.store import Store
from tests.contracts.target import BLOB, push_artifact, push_bytes, some_bytes
from tests.store.store_builders import REFERENCE, blobs, prove, tagged

NOTHING = Collected((), 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def test_what_names_need_stays(store: Store) -> None:
    """Tags, links and entries of other tools keep everything under them."""
    tagged(store, 1)
    store.link(push_artifact(store, 2).descriptor, "docker.io/ai/qwen2.5")
    inner = push_artifact(store, 3)
    index = build_index((inner.descriptor,))
    store.push(index.descriptor, content_of(index.raw))
    store.tag(index.descriptor, REFERENCE.tagged("index"))
    before = blobs(store)
    assert collect(store) == NOTHING
    assert blobs(store) == before


def test_the_last_name_frees_the_content(store: Store) -> None:
    """Removing one of two tags frees nothing, the last one all, with the bytes counted."""
    manifest = tagged(store)
    store.tag(manifest.descriptor, REFERENCE.tagged("again"))
    store.untag(REFERENCE)
    assert collect(store, candidates=[manifest.descriptor]) == NOTHING
    store.untag(REFERENCE.tagged("again"))
    collected = collect(store, candidates=[manifest.descriptor])
    assert collected.size_bytes == manifest.content_size + len(manifest.raw)
    assert set(collected.digests) == {manifest.descriptor.digest, *(d.digest for d in manifest.successors)}
    assert not blobs(store)


def test_shared_content_stays(store: Store) -> None:
    """What two models share goes with the second, not with the first."""
    config, layer = push_bytes(store, b"{}", OCI_EMPTY), push_bytes(store, some_bytes(size=1000))
    own = push_bytes(store, b"own")
    one, two = build_manifest(config, (layer, own)), build_manifest(config, (layer,))
    for manifest, tag in ((one, "one"), (two, "two")):
        store.push(manifest.descriptor, content_of(manifest.raw))
        store.tag(manifest.descriptor, REFERENCE.tagged(tag))
    store.untag(REFERENCE.tagged("one"))
    assert collect(store, candidates=[one.descriptor]).digests == (one.descriptor.digest, own.digest)
    prove(store)


def test_candidates_limit_the_sweep(store: Store) -> None:
    """After a removal only what was removed is looked at; an upload without a manifest yet stays."""
    upload = push_bytes(store, b"upload")
    manifest = tagged(store)
    store.untag(REFERENCE)
    assert collect(store, candidates=[]) == NOTHING
    assert len(collect(store, candidates=[manifest.descriptor]).digests) == 3
    assert store.exists(upload)
    assert collect(store).digests == (upload.digest,)


def test_the_young_stay(store: Store) -> None:
    """A full sweep leaves alone what came in the grace period."""
    old, young = push_bytes(store, b"old"), push_bytes(store, b"young")
    an_hour_ago = time.time() - 3600
    os.utime(store.blob_path(old), (an_hour_ago, an_hour_ago))
    assert collect(store, younger_than_seconds=600).digests == (old.digest,)
    assert store.exists(young)


def test_foreign_files_stay(store: Store) -> None:
    """Files under `blobs/` that are no blobs by their name are not touched."""
    strange = [store.layout.blobs / "sha256" / "README", store.layout.blobs / "blake3" / ("a" * 64)]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    assert collect(store) == NOTHING
    assert all(path.exists() for path in strange)


@pytest.mark.parametrize("damage", ["missing", "other bytes", "no manifest"])
def test_an_unreadable_manifest_stops_the_sweep(store: Store, damage: str) -> None:
    """What a broken model needs is not known, so nothing goes, and the broken one is reported."""
    broken, gone = tagged(store, 1), push_artifact(store, 2)
    path = store.blob_path(broken.descriptor)
    path.unlink()
    if damage != "missing":
        path.write_bytes(broken.raw[::-1] if damage == "other bytes" else b"short")
    before = blobs(store)
    for collected in (collect(store), collect(store, candidates=[gone.descriptor])):
        assert collected == Collected((), 0, (broken.descriptor.digest,))
    assert blobs(store) == before
    with pytest.raises(Conflict):
        delete_blob(store, gone.config.digest)


def test_a_broken_model_can_be_removed(store: Store) -> None:
    """Once a broken model has no name, its manifest goes, and the next full sweep takes the rest."""
    broken, whole = tagged(store, 1), tagged(store, 2, REFERENCE.tagged("whole"))
    path = store.blob_path(broken.descriptor)
    path.unlink()
    path.write_bytes(bytes(10))
    store.untag(REFERENCE)
    assert collect(store, candidates=[broken.descriptor]).digests == (broken.descriptor.digest,)
    assert set(collect(store).digests) == {item.digest for item in broken.successors}
    assert store.resolve(REFERENCE.tagged("whole")) == whole.descriptor
    prove(store)


def test_a_referrer_does_not_keep_its_subject(store: Store) -> None:
    """A manifest with a `subject` keeps its own content alone."""
    subject = push_artifact(store)
    config = push_bytes(store, b"{}", OCI_EMPTY)
    referrer = build_manifest(config, (), subject=subject.descriptor)
    store.push(referrer.descriptor, content_of(referrer.raw))
    store.tag(referrer.descriptor, REFERENCE)
    assert len(collect(store).digests) == 3
    prove(store)


def test_a_manifest_listed_as_a_layer_keeps_its_content(store: Store) -> None:
    """That one model lists a manifest as a plain layer does not hide what another needs under it."""
    inner = push_artifact(store)
    as_layer = Descriptor(BLOB, inner.descriptor.digest, inner.descriptor.size)
    config = push_bytes(store, b"{}", OCI_EMPTY)
    outer = build_manifest(config, (as_layer,))
    store.push(outer.descriptor, content_of(outer.raw))
    index = build_index((as_layer, inner.descriptor, as_layer))
    store.push(index.descriptor, content_of(index.raw))
    store.tag(outer.descriptor, REFERENCE.tagged("a"))
    store.tag(index.descriptor, REFERENCE.tagged("b"))
    assert collect(store) == NOTHING
    prove(store)


def test_a_lease_keeps_what_it_names(store: Store) -> None:
    """Leased content stays, come before or after the lease, with what is under it; then it goes."""
    early = push_artifact(store, 1)
    late = Descriptor.of(b"late", BLOB)
    with store.protect([early.descriptor, late]), store.protect([]):
        push_bytes(store, b"late")
        assert collect(store) == NOTHING
        with pytest.raises(Conflict):
            delete_blob(store, early.config.digest)
    assert not list(store.layout.leases.iterdir())
    assert len(collect(store).digests) == 4


def test_a_leased_manifest_may_be_absent(store: Store) -> None:
    """A lease on a manifest still to come, or damaged, does not stop the sweep of other content."""
    coming = build_manifest(Descriptor.of(b"{}", OCI_EMPTY), ()).descriptor
    other = push_bytes(store, b"other")
    with store.protect([coming]):
        assert collect(store).digests == (other.digest,)


def test_a_void_lease_is_swept_away(store: Store) -> None:
    """A lease without a living holder keeps nothing and is removed."""
    descriptor = push_bytes(store, b"abandoned")
    path = store.layout.disk.make_directory(store.layout.leases) / "123-abc"
    path.write_text(json.dumps(descriptor.render()))
    assert collect(store).digests == (descriptor.digest,)
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_lease_that_cannot_be_read_stops_the_sweep(store: Store, text: str) -> None:
    """A live lease of a newer program that we do not understand may keep anything."""
    descriptor = push_bytes(store, b"content")
    with store.protect([descriptor]):
        (path,) = store.layout.leases.iterdir()
        path.write_text(text, encoding="latin-1")
        with pytest.raises(Malformed, match="leases"):
            collect(store)
    assert store.exists(descriptor)


def test_a_lease_that_cannot_be_written_is_void(tmp_path: Path) -> None:
    """When the disk is full the lease raises, and what it left keeps nothing."""

    class Full(Disk):
        def write(self, *_: object) -> None:
            raise KeyboardInterrupt

    descriptor = push_bytes(Store.open(tmp_path), b"content")
    with pytest.raises(KeyboardInterrupt), Store.open(tmp_path, disk=Full()).protect([descriptor]):
        raise AssertionError("there is no lease")
    assert collect(Store.open(tmp_path)).digests == (descriptor.digest,)
    assert not list((tmp_path / "leases").iterdir())


def test_single_blobs_can_be_deleted(store: Store) -> None:
    """A blob goes at once when nothing needs it; one that is needed or absent is refused."""
    manifest, loose = tagged(store), push_bytes(store, b"loose")
    delete_blob(store, loose.digest)
    assert not store.exists(loose)
    with pytest.raises(BlobUnknown):
        delete_blob(store, loose.digest)
    with pytest.raises(Conflict):
        delete_blob(store, manifest.config.digest)
    prove(store)


def test_a_deep_chain_of_indexes_is_walked(store: Store) -> None:
    """Nesting deeper than Python recurses is no trouble."""
    descriptor = push_artifact(store).descriptor
    for _ in range(1200):
        index = build_index((descriptor,))
        path = store.layout.blob(index.descriptor.digest)
        path.write_bytes(index.raw)  # as another tool would, without a thousand fsyncs
        descriptor = index.descriptor
    store.tag(descriptor, REFERENCE)
    assert collect(store) == NOTHING


MODELS = st.lists(st.frozensets(st.integers(0, 5), max_size=4), min_size=1, max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models=MODELS, removals=st.lists(st.integers(0, 4), max_size=5))
def test_after_any_removals_the_rest_is_whole(
    tmp_path_factory: pytest.TempPathFactory, models: list[frozenset[int]], removals: list[int]
) -> None:
    """Whatever models share and whichever are removed, exactly the content of the rest is left."""
    store = Store.open(tmp_path_factory.mktemp("store"))
    config = push_bytes(store, b"{}", OCI_EMPTY)
    named = {}
    for number, parts in enumerate(models):
        layers = tuple(push_bytes(store, b"%d" % part) for part in sorted(parts))
        manifest = build_manifest(config, layers)
        push_bytes(store, manifest.raw, OCI_MANIFEST)
        named[REFERENCE.tagged(str(number))] = manifest
        store.tag(manifest.descriptor, REFERENCE.tagged(str(number)))
    for number in removals:
        if (reference := REFERENCE.tagged(str(number))) in named:
            gone = store.untag(reference)
            del named[reference]
            collect(store, candidates=[gone])
    needed: set[Digest] = set()
    for manifest in named.values():
        needed |= {manifest.descriptor.digest, *(item.digest for item in manifest.successors)}
    assert {path.name for path in blobs(store)} == {digest.hex for digest in needed}
    prove(store)
