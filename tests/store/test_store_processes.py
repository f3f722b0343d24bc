"""Several processes on one store, and processes that are killed."""

import os
import random
import subprocess
import sys
import time
from io import FileIO
from pathlib import Path

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Reader, content_of
from qwenctl.store.disk import Disk
from qwenctl.store.gc import collect
from qwenctl.store.store import Store
from tests.store.store_builders import prove
from tests.store.store_program import MODELS, layer, model, pull

ROOT = Path(__file__).parent.parent.parent
KILLS = 20


def start(store: Store, seed: int, seconds: float) -> "subprocess.Popen[bytes]":
    """A process at work on the store."""
    command = [sys.executable, "-m", "tests.store.store_program", str(store.path), str(seed), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: "subprocess.Popen[bytes]", status: int = 0) -> None:
    """Wait for the end of a process; it must be this one."""
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors.decode()


def fill(store: Store) -> None:
    """Pull everything; then nothing is left over."""
    for number in range(MODELS):
        pull(store, number)
    prove(store)
    collect(store)
    prove(store)
    assert len(store.tags()) == MODELS
    assert store.usage().partial_bytes == 0
    assert not list(store.layout.ingests.iterdir())
    assert not list(store.layout.leases.iterdir())


def test_processes_work_side_by_side(tmp_path: Path) -> None:
    """Pulls, removals and sweeps of three processes at once: none fails, every name is whole."""
    store = Store.open(tmp_path)
    processes = [start(store, seed, 1.5) for seed in range(3)]
    for process in processes:
        finish(process)
    prove(store)
    fill(store)


def test_processes_make_one_store(tmp_path: Path) -> None:
    """Processes that open a store which is not there yet all use the same one."""
    program = (
        "import sys; from pathlib import Path; from qwenctl.store.store import Store\n"
        "from tests.store.store_program import pull; sys.stdin.read()\n"
        "pull(Store.open(Path(sys.argv[1])), int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store")]
    processes = [subprocess.Popen([*command, str(n)], cwd=ROOT, stdin=subprocess.PIPE) for n in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0, 0, 0, 0]
    assert len(Store.open(tmp_path / "store").tags()) == 4


@pytest.mark.slow
def test_killed_processes_leave_a_sound_store(tmp_path: Path) -> None:
    """After each of many kills beside another process: every blob verifies, every name is whole."""
    store, chance, torn = Store.open(tmp_path), random.Random(7), 0
    for number in range(KILLS):
        bystander = start(store, 1000 + number, 0.2)
        victim = start(store, number, 60)
        time.sleep(chance.uniform(0, 0.2))
        victim.kill()
        finish(victim, -9)
        torn += store.usage().partial_bytes > 0
        finish(bystander)
        prove(store)
    assert torn, "no kill came in the middle of a blob"
    fill(store)


class MortalDisk(Disk):
    """A disk on which the process ends at once after so many effects, without any clean-up."""

    def __init__(self, life: int) -> None:
        self.life = life

    def _live(self) -> None:
        self.life -= 1
        if not self.life:
            os._exit(9)

    def write(self, file: FileIO, piece: memoryview, needed_bytes: int | None = None) -> None:
        """Write, and live or die."""
        super().write(file, piece, needed_bytes)
        self._live()

    def sync(self, file: FileIO) -> None:
        """Do, and live or die."""
        super().sync(file)
        self._live()

    def seal(self, file: FileIO) -> None:
        """Do, and live or die."""
        super().seal(file)
        self._live()

    def rename(self, source: Path, target: Path) -> None:
        """Do, and live or die."""
        super().rename(source, target)
        self._live()

    def sync_directory(self, path: Path) -> None:
        """Do, and live or die."""
        super().sync_directory(path)
        self._live()

    def unlink(self, path: Path) -> None:
        """Do, and live or die."""
        super().unlink(path)
        self._live()


def replace_model(store: Store) -> None:
    """Pull one model, then remove another and what only that one needed."""
    pull(store, 1)
    old = Reference.parse("model:0")
    if old in dict(store.tags()):
        store.untag(old)
    collect(store, candidates=[model(0)[0].descriptor])


def dies(path: Path, life: int) -> bool:
    """Whether a process with so many effects to live died before it was done."""
    child = os.fork()
    if not child:
        try:
            replace_model(Store.open(path, disk=MortalDisk(life)))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 9


def test_a_process_may_end_after_every_step(tmp_path: Path) -> None:
    """Killed after any step of a pull and a removal, all that is visible is whole; the rest can be done."""
    life = 1
    while True:
        store = Store.open(tmp_path / str(life))
        pull(store, 0)
        died = dies(store.path, life)
        prove(store)
        assert {tag for tag, _ in store.tags()} <= {Reference.parse("model:0"), Reference.parse("model:1")}
        replace_model(store)
        prove(store)
        assert [tag for tag, _ in store.tags()] == [Reference.parse("model:1")]
        collect(store)
        assert store.usage().blobs == 4
        assert not any(list(path.iterdir()) for path in (store.layout.ingests, store.layout.leases))
        assert not list(store.path.glob(".*.draft"))
        if not died:
            break
        life += 1
    assert life > 20


def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    """What a killed process protected can be collected at once."""
    store = Store.open(tmp_path)
    manifest, contents = model(0)
    program = (
        "import sys, time; from pathlib import Path; from qwenctl.store.store import Store\n"
        "from tests.store.store_program import model; store = Store.open(Path(sys.argv[1]))\n"
        "with store.protect(model(0)[0].successors): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        store.push(manifest.layers[0], content_of(contents[1]))
        assert collect(store).digests == ()
        holder.kill()
    assert collect(store).digests == (manifest.layers[0].digest,)


@pytest.mark.parametrize("whole", [False, True])
def test_two_processes_share_one_download(tmp_path: Path, whole: bool) -> None:
    """While another process holds the blob we wait for it; when it is killed we go on where it was."""
    raw, descriptor = layer(3), model(3)[0].layers[0]
    program = (
        "import sys; from pathlib import Path; from qwenctl.store.store import Store\n"
        "from tests.store.store_program import layer, model; from tests.contracts.target import Interrupted\n"
        "class Slow(Interrupted):\n"
        "    def readinto(self, buffer):\n"
        "        if self.tell() > 1000: print('half', flush=True); sys.stdin.read(1)\n"
        "        return super().readinto(buffer[:500_000]) if self.tell() < len(layer(3)) else 0\n"
        "Store.open(Path(sys.argv[1])).push(model(3)[0].layers[0], lambda offset: Slow(layer(3)[offset:]))"
    )
    store = Store.open(tmp_path)
    command = [sys.executable, "-c", program, str(tmp_path)]
    asked: list[int] = []

    def rest(offset: int) -> Reader:
        asked.append(offset)
        return content_of(raw)(offset)

    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        assert other.stdout.readline() == b"half\n"
        waiter = os.fork()
        if not waiter:
            try:
                store.push(descriptor, rest)
            finally:
                os._exit(len(asked) + (1 if asked == [500_000] else 0))
        time.sleep(0.1)
        assert os.waitpid(waiter, os.WNOHANG) == (0, 0)
        if whole:
            other.stdin.write(b"....")
            other.stdin.close()
        else:
            other.kill()
        _, status = os.waitpid(waiter, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if whole else 2)
    prove(store)
    assert store.exists(descriptor)
