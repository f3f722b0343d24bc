"""What interrupted work leaves behind, and taking it away beside processes that are at work."""

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwenctl.oci.digest import Digest
from qwenctl.store.disk import Disk
from qwenctl.store.leftovers import Kind, holding, is_busy, list_leftovers, remove
from qwenctl.store.store import Store
from tests.contracts.target import some_bytes
from tests.store.store_builders import prove

ROOT = Path(__file__).parent.parent.parent
RAW = some_bytes()
DIGEST = Digest.of(RAW)
NAME = f"sha256-{DIGEST.hex}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in whose `ingest` a quarter of a blob was left."""
    store = Store.open(tmp_path / "store")
    store.layout.disk.make_directory(store.layout.ingests)
    (store.layout.ingests / NAME).write_bytes(RAW[: len(RAW) // 4])
    return store


def names(store: Store) -> list[str]:
    """What is in `ingest`."""
    return sorted(path.name for path in store.layout.ingests.iterdir())


def test_each_leftover_is_known_by_its_name(store: Store) -> None:
    """What belongs to a download is one leftover; what is not ours is none."""
    ingests = store.layout.ingests
    strange = ["README", "sha256-short", "damaged-", "md5-00", "upload-", "upload-a b"]
    for name in (f"{NAME}.journal", f".{NAME}.journal.draft", "upload-0f-1", f"damaged-{NAME}.5", *strange):
        (ingests / name).write_bytes(b"12")
    (store.path / ".index.json.draft").touch()
    found = {item.kind: item for item in list_leftovers(store.layout)}
    assert {kind: len(item.files) for kind, item in found.items()} == {
        Kind.PARTIAL: 3,
        Kind.UPLOAD: 1,
        Kind.DAMAGED: 1,
        Kind.DRAFT: 1,
    }
    partial = found[Kind.PARTIAL]
    assert (partial.name, partial.digest, partial.files[0].path.name) == (NAME, DIGEST, NAME)
    assert partial.present_bytes == len(RAW) // 4
    assert found[Kind.DAMAGED].digest == DIGEST
    assert found[Kind.DAMAGED].changed_seconds == 5e-9
    for item in found.values():
        assert remove(store.layout, item)
    assert names(store) == sorted(strange)
    assert list_leftovers(store.layout) == []


def test_a_running_download_keeps_its_file(store: Store) -> None:
    """While a process holds the partial file it is busy and is not removed; afterwards it is."""
    (leftover,) = list_leftovers(store.layout)
    with (store.layout.ingests / NAME).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_busy(store.layout, leftover)
        assert not remove(store.layout, leftover)
    assert not is_busy(store.layout, leftover)
    assert remove(store.layout, leftover)
    assert names(store) == []
    assert not is_busy(store.layout, leftover)
    assert remove(store.layout, leftover)  # it is gone, which is what was wanted


def test_a_journal_without_its_file_goes(store: Store) -> None:
    """Nothing of it can be used any more."""
    (store.layout.ingests / NAME).rename(store.layout.ingests / f"{NAME}.journal")
    (leftover,) = list_leftovers(store.layout)
    assert (leftover.kind, leftover.present_bytes) == (Kind.PARTIAL, 0)
    assert remove(store.layout, leftover)
    assert names(store) == []


def test_a_sealed_partial_goes(store: Store) -> None:
    """Its writer was killed just before the end; read-only is no protection."""
    (store.layout.ingests / NAME).chmod(0o444)
    (leftover,) = list_leftovers(store.layout)
    assert remove(store.layout, leftover)
    assert names(store) == []


def test_holding_leaves_no_trace(store: Store) -> None:
    """The lock of a blob that nobody downloads is a file only while it is held."""
    other = Digest.of(b"other")
    with holding(store.layout, other) as held:
        assert held is not None
        assert f"sha256-{other.hex}" in names(store)
        with holding(store.layout, other) as again:
            assert again is None
    assert names(store) == [NAME]


class Pausing(Disk):
    """A disk that waits, before it unlinks the partial file, until another process waits for its lock."""

    def __init__(self, waiter: "subprocess.Popen[bytes]") -> None:
        self.waiter = waiter

    def unlink(self, path: Path) -> None:
        """Let the other process come, then unlink."""
        if path.name == NAME:
            assert self.waiter.stdin is not None
            self.waiter.stdin.write(b"go\n")
            self.waiter.stdin.flush()
            _until_it_waits_for_a_lock(self.waiter.pid)
        super().unlink(path)


def _until_it_waits_for_a_lock(pid: int) -> None:
    locks = Path("/proc/locks")
    end = time.monotonic() + (20 if locks.exists() else 0.5)
    while time.monotonic() < end:
        if locks.exists() and any(
            "->" in line and f" {pid} " in line for line in locks.read_text().splitlines()
        ):
            return
        time.sleep(0.01)


def test_who_adopts_a_partial_while_it_goes_begins_anew(store: Store) -> None:
    """A pull that waits for the very file that a prune removes notices, and brings the blob whole."""
    program = (
        "import sys; from pathlib import Path; from qwenctl.store.store import Store\n"
        "from tests.contracts.target import push_bytes, some_bytes\n"
        "store, raw = Store.open(Path(sys.argv[1])), some_bytes()\n"
        "print('ready', flush=True); sys.stdin.readline(); push_bytes(store, raw)"
    )
    command = [sys.executable, "-c", program, str(store.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as puller:
        assert puller.stdout is not None
        assert puller.stdout.readline() == b"ready\n"
        pruner = Store.open(store.path, disk=Pausing(puller))
        (leftover,) = list_leftovers(pruner.layout)
        assert remove(pruner.layout, leftover)
        assert puller.wait(30) == 0
    prove(store)
    assert store.describe(DIGEST).size == len(RAW)
    assert names(store) == []
