"""Usage: what the store takes, and for what."""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from qwenctl.flows.usage import usage
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.store.footprint import total_disk_bytes, walk
from qwenctl.store.store import Store
from tests.builders import index_of, model
from tests.contracts.target import push_bytes
from tests.store.store_builders import damage

ONE = Reference.parse("one:v1")
TWO = Reference.parse("two:v1")
PARTIAL = f"sha256-{Digest.of(b'partial').hex}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two models that share a licence, something loose, and all kinds of leftovers."""
    store = Store.open(tmp_path / "store")
    model(1).put(store, ONE)
    model(2, 100_000).put(store, TWO)
    push_bytes(store, os.urandom(50_000))
    ingests = store.layout.disk.make_directory(store.layout.ingests)
    with (ingests / PARTIAL).open("wb") as file:
        file.write(os.urandom(20_000))
        file.truncate(10 << 20)
    (ingests / f"{PARTIAL}.journal").write_text("{}")
    (ingests / "upload-1").write_bytes(os.urandom(9_000))
    (ingests / f"damaged-{PARTIAL}.{time.time_ns()}").write_bytes(os.urandom(8_000))
    (store.path / "notes").write_text("not ours")
    os.sync()
    return store


def test_the_parts_are_the_whole(store: Store) -> None:
    """Every file is counted once, under one part."""
    report = usage(store)
    parts = (
        report.blobs,
        report.unreferenced,
        report.partial_downloads,
        report.uploads,
        report.damaged,
        report.other,
    )
    assert sum(part.disk_bytes for part in parts) == report.disk_bytes
    assert [part.count for part in parts[:-1]] == [7, 1, 1, 1, 1]
    assert report.free_bytes > 0


def test_the_total_is_what_du_says(store: Store, tmp_path: Path) -> None:
    """Blocks, not sizes; a file with holes is as small as it is, two names are one file."""
    elsewhere = store.path / "blobs" / "sha256" / "same"
    elsewhere.hardlink_to(store.layout.blob(model(2, 100_000).manifest.layers[0].digest))
    assert usage(store).disk_bytes == total_disk_bytes(walk(store.path))
    if shutil.which("du"):
        said = subprocess.run(["du", "-sk", str(store.path)], capture_output=True, text=True, check=True)
        assert abs(usage(store).disk_bytes - int(said.stdout.split()[0]) * 1024) < 1024


def test_sharing_is_told(store: Store) -> None:
    """What goes with the last name of a model, and what another needs too; two names are one model."""
    store.tag(store.resolve(ONE), ONE.tagged("again"))
    one, two = usage(store).models
    made = model(1)
    shared = len(made.license)
    assert one.names == ["one:again", "one:v1"]
    assert (one.shared_bytes, two.shared_bytes) == (shared, shared)
    assert one.size_bytes == made.manifest.content_size + len(made.manifest.raw)
    assert one.unique_bytes == one.size_bytes - shared
    assert not one.incomplete


def test_an_index_shares_with_its_models(store: Store) -> None:
    """What is under an index counts for it, each content once."""
    index = index_of(model(1), model(2, 100_000))
    push_bytes(store, index.raw, index.media_type)
    store.tag(index.descriptor, Reference.parse("both:v1"))
    both, one, two = usage(store).models
    assert both.unique_bytes == len(index.raw)
    assert one.unique_bytes == two.unique_bytes == 0
    assert both.size_bytes == one.size_bytes + two.size_bytes - len(model(1).license) + len(index.raw)


def test_what_can_go_is_told(store: Store) -> None:
    """What a prune would free now, and what later; the damaged blob goes at once."""
    report = usage(store)
    assert report.damaged.reclaimable_bytes == report.damaged.disk_bytes == report.reclaimable_bytes > 0
    assert report.unreferenced.reclaimable_bytes == 0
    later = (report.unreferenced, report.partial_downloads, report.uploads)
    assert report.later_bytes == sum(part.disk_bytes for part in later)
    long_ago = time.time() - 8 * 86_400
    for path in store.path.rglob("*"):
        os.utime(path, (long_ago, long_ago))
    report = usage(store)
    assert report.later_bytes == 0
    assert report.unreferenced.reclaimable_bytes == report.unreferenced.disk_bytes


def test_partial_downloads(store: Store) -> None:
    """How much is there, not how large the file will be, and whether a process is at it."""
    (row,) = usage(store).partials
    assert row.digest == str(Digest.of(b"partial"))
    assert 20_000 <= row.present_bytes < 1 << 20
    assert not row.active
    with (store.layout.ingests / PARTIAL).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (row,) = usage(store).partials
    assert row.active


def test_a_model_that_is_not_whole(store: Store) -> None:
    """Content that is missing is told; of a manifest that cannot be read it is not known what it needs."""
    store.layout.blob(model(1).manifest.layers[0].digest).unlink()
    damage(store.layout.blob(model(2, 100_000).manifest.descriptor.digest))
    one, two = usage(store).models
    assert (one.incomplete, two.incomplete) == (True, True)
    assert two.size_bytes == len(model(2, 100_000).manifest.raw)


def test_a_store_that_is_only_read(store: Store) -> None:
    """Without a lock to be had the account is made all the same."""
    (store.path / ".lock").unlink()
    (store.path / ".lock").mkdir()  # cannot be opened, as in a store on a read-only disk
    assert len(usage(store).models) == 2
