"""Receiving large content: one connection or several, what is kept, what is found out."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from io import FileIO
from pathlib import Path

import pytest

from qwenctl.errors import DigestMismatch, DiskFull, SizeMismatch, Unreachable
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.target import Reader
from qwenctl.store import checkpoints
from qwenctl.store.disk import Disk
from qwenctl.store.journal import Journal
from qwenctl.store.pace import Pace
from qwenctl.store.receive import Receiver
from qwenctl.store.spans import Spans
from qwenctl.store.store import Store
from tests.contracts.target import BLOB, some_bytes

MIB = 1 << 20
SIZE = 100 * MIB + 12_345


@cache
def raw() -> bytes:
    """Large content, every MiB of it another."""
    piece = some_bytes(size=MIB + 7)
    return b"".join(piece[number % 999 :] + piece[: number % 999] for number in range(101))[:SIZE]


@cache
def descriptor() -> Descriptor:
    """What it is."""
    return Descriptor.of(raw(), BLOB)


class Eager(Pace):
    """Wants one more connection every time, up to four."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def advise(
        self,
        now: float,
        moved_bytes: int,
        missing_bytes: int,
        hash_seconds: float,
        borrow: Callable[[], bool],
    ) -> int:
        """One more, if it may be."""
        if not self._settled and self.wanted < 4 and missing_bytes > 32 * MIB and borrow():
            self.wanted += 1
        return self.wanted


class Rest:
    """A reader from a place of some bytes on, which can be told to break off."""

    def __init__(self, content: "Divided", first: int, end: int) -> None:
        self._content, self._position, self._end = content, first, end

    def readinto(self, buffer: memoryview, /) -> int:
        """The next bytes."""
        count = min(len(buffer), self._end - self._position)
        self._content.check(self._position)
        buffer[:count] = self._content.raw[self._position : self._position + count]
        self._position += count
        with self._content.lock:
            self._content.moved_bytes += count
        if self._content.pause_seconds:
            time.sleep(self._content.pause_seconds)
        return count

    def close(self) -> None:
        """One connection less."""

    def __enter__(self) -> "Rest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Divided:
    """Content that several connections may bring, with what it was asked for and told."""

    def __init__(self, content: bytes, *, spare: int = 3, pause_seconds: float = 0.0) -> None:
        self.raw = content
        self.lock = threading.Lock()
        self.pause_seconds = pause_seconds
        self.pieces: list[tuple[int, int | None]] = []
        self.kept: list[int] = []
        self.moved_bytes = 0
        self.borrowed = 0
        self._spare = threading.Semaphore(spare)
        self.breaks: Callable[[int], bool] = lambda position: False

    def check(self, position: int) -> None:
        """Break off where the test says so."""
        if self.breaks(position):
            raise Unreachable("the connection broke")

    def __call__(self, offset: int, /) -> Reader:
        self.pieces.append((offset, None))
        return Rest(self, offset, len(self.raw))

    def piece(self, offset: int, length: int) -> Reader:
        self.pieces.append((offset, length))
        return Rest(self, offset, min(offset + length, len(self.raw)))

    def borrow(self) -> bool:
        got = self._spare.acquire(blocking=False)
        with self.lock:
            self.borrowed += got
        return got

    def give_back(self) -> None:
        with self.lock:
            self.borrowed -= 1
        self._spare.release()

    def begin(self, kept_bytes: int) -> None:
        self.kept.append(kept_bytes)

    def wait(self, here_bytes: int) -> None:
        raise AssertionError("nobody else is there")


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[FileIO]:
    """An empty partial file."""
    with (tmp_path / "partial").open("w+b", buffering=0) as file:
        yield file


def receiver(
    partial: FileIO,
    content: Divided,
    kept: Spans | None = None,
    pace: Pace | None = None,
    disk: Disk | None = None,
) -> Receiver:
    """One attempt at the content."""
    journal = Journal.beside(disk or Disk(), Path(str(partial.name)))
    return Receiver(disk or Disk(), partial, journal, descriptor(), content, kept or Spans(), pace)


def test_one_connection_brings_all(partial: FileIO) -> None:
    """Without a reason for more there is one request, and every byte comes once."""
    content = Divided(raw(), spare=0)
    receiver(partial, content, pace=Eager()).run()
    assert content.pieces == [(0, None)] and content.moved_bytes == SIZE
    assert Path(str(partial.name)).read_bytes() == raw()


def test_several_connections_bring_all(partial: FileIO) -> None:
    """Pieces come side by side, each byte about once, and all connections are given back."""
    content = Divided(raw(), pause_seconds=0.001)
    attempt = receiver(partial, content, pace=Eager())
    attempt.run()
    assert Path(str(partial.name)).read_bytes() == raw()
    assert len(content.pieces) > 3 and content.borrowed == 0
    assert content.moved_bytes <= SIZE + 4 * MIB
    assert attempt.doubtful


def test_a_further_connection_that_breaks_is_done_without(partial: FileIO) -> None:
    """The first goes on, brings what the others left, and no more are tried."""
    content = Divided(raw(), pause_seconds=0.001)
    first = threading.current_thread()
    content.breaks = lambda position: threading.current_thread() is not first and position > 20 * MIB
    receiver(partial, content, pace=Eager()).run()
    assert Path(str(partial.name)).read_bytes() == raw()
    assert content.borrowed == 0


def test_the_first_connection_ends_it(partial: FileIO) -> None:
    """When the first one breaks, the error is raised, and the journal has what came."""
    content = Divided(raw(), spare=0)
    content.breaks = lambda position: position >= 50 * MIB
    with pytest.raises(Unreachable):
        receiver(partial, content).run()
    journal = Journal(Disk(), Path(f"{partial.name}.journal"), "another boot")
    assert journal.trusted(SIZE) == Spans([(0, 50 * MIB)])
    content.breaks = lambda position: False
    receiver(partial, content, journal.trusted(SIZE)).run()
    assert content.pieces == [(0, None), (50 * MIB, None)] and content.kept == [0, 50 * MIB]
    assert content.moved_bytes == SIZE
    assert Path(str(partial.name)).read_bytes() == raw()


def test_gaps_are_filled(partial: FileIO) -> None:
    """Kept pieces with holes between: only the holes are asked for."""
    partial.write(raw())
    holes = [(0, 5), (40 * MIB, 41 * MIB), (SIZE - 9, SIZE)]
    for first, end in holes:
        partial.seek(first)
        partial.write(bytes(end - first))
    kept = Spans([(5, 40 * MIB), (41 * MIB, SIZE - 9)])
    content = Divided(raw())
    receiver(partial, content, kept).run()
    assert content.pieces == [(0, 5), (40 * MIB, MIB), (SIZE - 9, None)]
    assert content.moved_bytes == MIB + 14
    assert Path(str(partial.name)).read_bytes() == raw()


@pytest.mark.parametrize(
    ("change", "pace"),
    [("flipped", None), ("short", None), ("long", None), ("flipped", Eager), ("short", Eager)],
)
def test_wrong_content_is_found_out(partial: FileIO, change: str, pace: type[Eager] | None) -> None:
    """A flipped bit or a missing byte over one connection or several; a byte too many over one."""
    flipped = raw()[:-1] + bytes([raw()[-1] ^ 1])
    wrong = {"flipped": flipped, "short": raw()[:-1], "long": raw() + b"x"}[change]
    with pytest.raises(DigestMismatch if change == "flipped" else SizeMismatch):
        receiver(partial, Divided(wrong, pause_seconds=0.0005), pace=pace() if pace else None).run()


class Full(Disk):
    """A disk that is full after so many bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def write_at(
        self, file: FileIO, piece: memoryview, position: int, needed_bytes: int | None = None
    ) -> None:
        """Write, or be full."""
        if position + len(piece) > self.limit:
            raise DiskFull("the disk is full")
        super().write_at(file, piece, position, needed_bytes)


@pytest.mark.parametrize("pace", [None, Eager])
def test_a_full_disk_ends_it(partial: FileIO, pace: type[Eager] | None) -> None:
    """The error is the disk's; what could not be written is not in the journal."""
    content = Divided(raw(), pause_seconds=0.0005)
    with pytest.raises(DiskFull):
        receiver(partial, content, pace=pace() if pace else None, disk=Full(30 * MIB)).run()
    trusted = Journal(Disk(), Path(f"{partial.name}.journal"), "another boot").trusted(SIZE)
    assert trusted.total and max(end for _, end in trusted) <= 30 * MIB


class Stuck(Disk):
    """A disk that makes nothing durable until it is let."""

    def __init__(self) -> None:
        self.syncs = threading.Semaphore(1)  # the first, before anything was written
        self.written: list[int] = []

    def write_at(
        self, file: FileIO, piece: memoryview, position: int, needed_bytes: int | None = None
    ) -> None:
        """Write and remember."""
        super().write_at(file, piece, position, needed_bytes)
        self.written.append(len(piece))

    def sync_data(self, file: FileIO) -> None:
        """Wait to be let."""
        assert self.syncs.acquire(timeout=30)
        super().sync_data(file)


def test_little_is_ever_at_stake(partial: FileIO) -> None:
    """While nothing becomes durable, writing stops before more than the limit is at stake."""
    disk, content = Stuck(), Divided(raw())
    attempt = threading.Thread(target=receiver(partial, content, disk=disk).run)
    attempt.start()
    deadline = time.monotonic() + 30
    while sum(disk.written) <= checkpoints.LIMIT_BYTES and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert checkpoints.LIMIT_BYTES < sum(disk.written) <= checkpoints.LIMIT_BYTES + MIB
    for _ in range(100):
        disk.syncs.release()
    attempt.join(60)
    assert Path(str(partial.name)).read_bytes() == raw()


def test_a_damaged_kept_part_is_replaced(tmp_path: Path) -> None:
    """Through the store: wrong bytes from before cost one more attempt, over one connection."""
    store = Store.open(tmp_path / "store")
    path = store.layout.partial(descriptor().digest)
    store.layout.disk.make_directory(path.parent)
    path.write_bytes(bytes(30 * MIB))
    content = Divided(raw())
    store.push(descriptor(), content)
    assert content.kept == [30 * MIB, 0]
    assert content.pieces == [(30 * MIB, None), (0, None)]
    assert store.blob_path(descriptor()).read_bytes() == raw()
    assert not list(store.layout.ingests.iterdir())


def test_nothing_is_left_of_wrong_content(tmp_path: Path) -> None:
    """Through the store: content that is all wrong leaves neither partial file nor journal."""
    store = Store.open(tmp_path / "store")
    wrong = bytes(SIZE)
    with pytest.raises(DigestMismatch):
        store.push(descriptor(), Divided(wrong))
    assert not list(store.layout.ingests.iterdir())
