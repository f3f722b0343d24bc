"""Prune: what goes, what stays, and that nobody loses by it."""

import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenctl.errors import Malformed
from qwenctl.flows.prune import DAY_SECONDS, Ages, PruneReport, plan, prune
from qwenctl.flows.usage import usage
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store
from tests.contracts.target import push_bytes
from tests.flows.prune_program import NOW
from tests.store.store_builders import REFERENCE, blobs, damage, prove, tagged
from tests.store.store_program import MODELS, model
from tests.store.store_program import pull as pull_model

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one model."""
    store = Store.open(tmp_path / "store")
    tagged(store)
    return store


def leave(store: Store, name: str, days: float, size: int = 10_000) -> Path:
    """A file in `ingest` that was last changed so many days ago."""
    path = store.layout.disk.make_directory(store.layout.ingests) / name
    path.write_bytes(os.urandom(size))
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    """Let a file be so many days old."""
    moment = time.time() - days * DAY_SECONDS
    os.utime(path, (moment, moment))


def partial(seed: int) -> str:
    """The name of a partial download."""
    return f"sha256-{Digest.of(b'%d' % seed).hex}"


def kinds(report: PruneReport) -> list[str]:
    """What went, or would."""
    return [item.kind for item in report.removed]


def test_nothing_to_do(store: Store) -> None:
    """A store that is in order loses nothing."""
    before = blobs(store)
    report = prune(store, NOW)
    assert (report.removed, report.freed_bytes, report.kept) == ([], 0, [])
    assert blobs(store) == before


def test_each_kind_has_its_age(store: Store) -> None:
    """By default a partial download must be a week old, a blob and an upload a day."""
    old = push_bytes(store, b"old")
    age(store.layout.blob(old.digest), 1.1)
    push_bytes(store, b"young")
    leave(store, partial(1), 7.1)
    leave(store, partial(2), 6.9)
    leave(store, "upload-1", 1.1)
    leave(store, "upload-2", 0.9)
    leave(store, f"damaged-{partial(3)}.{time.time_ns()}", 0)
    (store.path / ".index.json.draft").write_bytes(b"half")
    store.layout.disk.make_directory(store.layout.leases)
    (store.layout.leases / "1-a").write_text("")
    expected = ["blob", "partial", "upload", "damaged", "draft", "lease"]
    dry = plan(store, Ages())
    assert kinds(dry) == expected
    assert [item.kind for item in dry.kept] == ["blob", "partial", "upload"]
    done = prune(store, Ages())
    assert kinds(done) == expected
    assert done.freed_bytes == dry.freed_bytes > 0
    assert [item.name for item in done.kept] == [item.name for item in dry.kept]
    assert kinds(prune(store, Ages())) == []
    assert sorted(path.name for path in store.layout.ingests.iterdir()) == [partial(2), "upload-2"]
    prove(store)


def test_a_dry_run_changes_nothing(store: Store) -> None:
    """Not a file, not a time."""
    push_bytes(store, b"loose")
    leave(store, partial(1), 30)
    before = {path: path.lstat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()}
    assert kinds(plan(store, NOW)) == ["blob", "partial"]
    usage(store)
    assert {path: path.lstat().st_mtime_ns for path in store.path.rglob("*") if path.is_file()} == before


def test_the_journal_goes_with_its_download(store: Store) -> None:
    """The younger of both counts, and both go."""
    leave(store, partial(1), 30)
    journal = leave(store, f"{partial(1)}.journal", 1)
    assert kinds(prune(store, Ages())) == []
    age(journal, 8)
    (item,) = prune(store, Ages()).removed
    assert (item.kind, item.size_bytes) == ("partial", 20_000)
    assert not list(store.layout.ingests.iterdir())


def test_a_running_download_is_kept_and_told(store: Store) -> None:
    """However old its file is and whatever age was asked for."""
    path = leave(store, partial(1), 30)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for report in (plan(store, NOW), prune(store, NOW)):
            assert report.removed == []
            assert [item.kept for item in report.kept] == ["a download is at work on it"]
    assert kinds(prune(store, NOW)) == ["partial"]


def test_an_upload_keeps_its_day(store: Store) -> None:
    """Its file does not tell whether a client is at it, so `--older-than 0` leaves it alone."""
    leave(store, "upload-1", 0.9)
    leave(store, partial(1), 0)
    assert kinds(prune(store, Ages.of(0.0))) == ["partial"]


def test_content_of_a_running_pull_stays(store: Store) -> None:
    """What is leased is not listed, even without a grace."""
    coming = push_bytes(store, b"coming")
    with store.protect([coming]):
        assert plan(store, NOW).removed == prune(store, NOW).removed == []
    assert kinds(prune(store, NOW)) == ["blob"]


def test_an_unreadable_manifest_keeps_every_blob(store: Store) -> None:
    """What it needs is not known; the rest goes all the same, and the manifest is told."""
    push_bytes(store, b"loose")
    leave(store, partial(1), 30)
    manifest = store.resolve(REFERENCE)
    damage(store.layout.blob(manifest.digest))
    for report in (plan(store, NOW), prune(store, NOW)):
        assert kinds(report) == ["partial"]
        assert report.unreadable == [str(manifest.digest)]
        assert {item.kept for item in report.kept} == {"a manifest cannot be read"}


def test_a_hard_link_frees_nothing(store: Store, tmp_path: Path) -> None:
    """A blob that has another name elsewhere goes, and the disk gets nothing back."""
    loose = push_bytes(store, bytes(100_000))
    (tmp_path / "elsewhere").hardlink_to(store.layout.blob(loose.digest))
    report = prune(store, NOW)
    assert (kinds(report), report.freed_bytes) == (["blob"], 0)
    assert (tmp_path / "elsewhere").stat().st_size == 100_000


def test_a_lease_that_cannot_be_understood(store: Store) -> None:
    """Of a newer program: nothing goes, for it may need anything."""
    push_bytes(store, b"loose")
    leave(store, partial(1), 30)
    with store.protect([]):
        (path,) = store.layout.leases.iterdir()
        path.write_text("{")
        with pytest.raises(Malformed):
            prune(store, NOW)
    assert len(list(store.layout.ingests.iterdir())) == 1


def test_pulls_and_prunes_side_by_side(tmp_path: Path) -> None:
    """Three processes that pull, remove and prune without a grace: none fails, every name is whole."""
    store = Store.open(tmp_path)
    command = [sys.executable, "-m", "tests.flows.prune_program", str(tmp_path)]
    running = [
        subprocess.Popen([*command, str(seed), "2"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in range(3)
    ]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    prove(store)
    for number in range(MODELS):
        pull_model(store, number)
    prune(store, NOW)
    prove(store)
    assert len(store.tags()) == MODELS
    assert not list(store.layout.ingests.iterdir())


def test_a_pull_that_was_killed_leaves_what_prune_takes(tmp_path: Path) -> None:
    """Its void lease, its partial file and the blobs that it had brought: then the store is empty."""
    store = Store.open(tmp_path)
    manifest, contents = model(0)
    program = (
        "import os, sys; from pathlib import Path; from qwenctl.store.store import Store\n"
        "from qwenctl.oci.target import content_of\n"
        "from tests.contracts.target import Interrupted; from tests.store.store_program import model\n"
        "class Killed(Interrupted):\n"
        "    def readinto(self, buffer):\n"
        "        if self.tell() > 300_000: os._exit(9)\n"
        "        return super().readinto(buffer[:200_000])\n"
        "store, (manifest, contents) = Store.open(Path(sys.argv[1])), model(0)\n"
        "with store.protect([manifest.descriptor, *manifest.successors]):\n"
        "    store.push(manifest.config, content_of(contents[0]))\n"
        "    store.push(manifest.layers[0], lambda offset: Killed(contents[1][offset:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == 9
    assert kinds(prune(store, Ages())) == ["lease"]  # what was downloaded is kept
    store.push(manifest.config, content_of(contents[0]))
    assert kinds(prune(store, NOW)) == ["blob", "partial"]
    assert (store.usage().blobs, store.usage().partial_bytes) == (0, 0)


def test_many_tags(tmp_path: Path) -> None:
    """Thousands of models are planned and counted: each manifest is read a few times, not once per tag."""
    store = Store.open(tmp_path / "store")
    manifest = tagged(store)
    index = store.path / "index.json"
    document = json.loads(index.read_text())
    entry = document["manifests"][0]
    document["manifests"] = [
        entry | {"annotations": {"org.opencontainers.image.ref.name": f"docker.io/ai/m:{number}"}}
        for number in range(10_000)
    ]
    index.write_text(json.dumps(document))
    assert plan(store, NOW).removed == []
    (row,) = usage(store).models
    assert len(row.names) == 10_000
    assert row.unique_bytes == manifest.content_size + len(manifest.raw)
