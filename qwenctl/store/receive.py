"""Receiving one blob: the network, the disk and the hash side by side.

    lanes         each reads a piece and writes it at its place: the caller's thread, and more where they pay
    follower      hashes in order, beside them
    checkpoints   make durable what was written, beside them, so that little is lost whatever happens

Small content goes through one loop without threads.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import FileIO
from threading import Condition, Thread
from typing import Final

from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Verifier, too_long, too_short
from qwenctl.oci.target import PIECE, Content, Divisible, Reader
from qwenctl.store.checkpoints import Checkpoints
from qwenctl.store.disk import Disk
from qwenctl.store.follow import Follower, read_at
from qwenctl.store.journal import Journal
from qwenctl.store.pace import Pace
from qwenctl.store.spans import Spans

SMALL_BYTES: Final = 4 << 20
"""Content up to this size is not worth a thread."""
_SHORTEST_BYTES: Final = 16 << 20  # of what one request of a divided blob asks for
_LONGEST_BYTES: Final = 128 << 20


@dataclass(slots=True)
class _Lane:
    """One connection: where it is and where its piece ends. Changed under the receiver's lock."""

    file: FileIO
    position: int = 0
    limit: int = 0


class Receiver:
    """One attempt at one blob; `run` is called once, by the thread that holds the partial file."""

    def __init__(
        self,
        disk: Disk,
        file: FileIO,
        journal: Journal,
        descriptor: Descriptor,
        content: Content,
        kept: Spans,
        pace: Pace | None = None,
    ) -> None:
        self._disk, self._file, self._journal = disk, file, journal
        self._descriptor, self._size, self._content = descriptor, descriptor.size, content
        self._written = kept.within(descriptor.size)
        self._kept_bytes = self._written.total
        self._moved_bytes = 0
        length = os.fstat(file.fileno()).st_size
        self._ordered = self._written.prefix == length and self._kept_bytes == length
        self._changed = Condition()
        self._lanes: list[_Lane] = []
        self._over = False
        self._pace = pace or Pace(time.monotonic())

    @property
    def doubtful(self) -> bool:
        """Whether wrong bytes may come from what was kept or from a seam, so that another attempt helps."""
        return bool(self._kept_bytes) or not self._ordered

    def run(self, *, divide: bool = True) -> None:
        """Bring what is missing, prove everything. After an error what came is kept.

        With `divide` false one connection brings all. Raises: SizeMismatch, DigestMismatch; whatever the
        content and the disk raise.
        """
        verifier = Verifier(self._descriptor.digest, self._size)
        if isinstance(self._content, Divisible):
            self._content.begin(self._kept_bytes)
        if self._size <= SMALL_BYTES:
            return self._run_small(verifier)
        checkpoints = Checkpoints(self._disk, self._file, self._journal, self._snapshot)
        follower = Follower(self._file, verifier)
        whole = False
        try:
            follower.begin(self._written.prefix)
            self._run_lanes(follower, checkpoints, divide)
            follower.finish()
            whole = True
        finally:
            checkpoints.end(save=not whole)
            follower.give_up()

    def _run_small(self, verifier: Verifier) -> None:
        buffer, position, kept = memoryview(bytearray(PIECE)), 0, self._written.prefix
        while position < kept and (count := read_at(self._file, buffer[: kept - position], position)):
            verifier.update(buffer[:count])
            position += count
        if position < self._size or not self._size:
            with self._content(position) as reader:
                while count := reader.readinto(buffer):
                    verifier.update(buffer[:count])
                    self._disk.write_at(self._file, buffer[:count], position, self._size - position)
                    position += count
        verifier.finish()

    def _run_lanes(self, follower: Follower, checkpoints: Checkpoints, divide: bool) -> None:
        """The first lane, in this thread; it ends last, and does what a lane that broke has left."""
        lane = self._open_lane(self._file)
        advise = partial(self._advise, lane, follower, checkpoints) if divide else _keep_on
        try:
            while self._claim(lane):
                self._fill(lane, follower, checkpoints, advise)
        finally:  # the other lanes have ended, or are left to end by themselves: each has its own file
            with self._changed:
                self._over = True

    def _further_lane(self, lane: _Lane, follower: Follower, checkpoints: Checkpoints) -> None:
        """A borrowed lane: when it breaks, fewer have to do."""
        assert isinstance(self._content, Divisible)
        try:
            while len(self._lanes) <= self._pace.wanted and self._claim(lane):
                self._fill(lane, follower, checkpoints, _keep_on)
        except Exception:  # noqa: BLE001 - the first lane goes on, and meets the cause if it lasts
            self._pace.settle(len(self._lanes) - 1)
        finally:
            lane.file.close()
            self._content.give_back()
            with self._changed:
                self._lanes.remove(lane)
                self._changed.notify_all()

    def _open_lane(self, file: FileIO) -> _Lane:
        with self._changed:
            self._lanes.append(_Lane(file))
            return self._lanes[-1]

    def _claim(self, lane: _Lane) -> bool:
        """Give `lane` the next piece; the first lane waits while others might leave theirs unfinished."""
        with self._changed:
            while not self._over:
                taken = self._written.copy()
                for other in self._lanes:
                    if other is not lane:
                        taken.add(other.position, other.limit)
                gap = next(taken.gaps(self._size), None)
                if gap is not None:
                    lane.position = gap[0]
                    lane.limit = (
                        gap[1] if len(self._lanes) == 1 else min(gap[1], gap[0] + self._piece_bytes())
                    )
                    return True
                lane.position = lane.limit = 0
                if lane is not self._lanes[0] or len(self._lanes) == 1:
                    return False
                self._changed.wait()
            return False

    def _piece_bytes(self) -> int:
        """What one request asks for when there are several lanes: large, but not so that one ends late."""
        missing = self._size - self._written.total
        return min(max(missing // (4 * len(self._lanes)), _SHORTEST_BYTES), _LONGEST_BYTES)

    def _reader(self, lane: _Lane) -> Reader:
        if lane.limit < self._size and isinstance(self._content, Divisible):
            return self._content.piece(lane.position, lane.limit - lane.position)
        return self._content(lane.position)

    def _fill(
        self, lane: _Lane, follower: Follower, checkpoints: Checkpoints, advise: Callable[[], None]
    ) -> None:
        """Read the lane's piece to its limit, which may come nearer meanwhile."""
        with self._reader(lane) as reader:
            while (missing := lane.limit - lane.position) > 0 and not self._over:
                buffer, written = follower.buffer(), 0
                try:
                    if count := reader.readinto(buffer[:missing]):
                        needed_bytes = self._size - self._written.total
                        self._disk.write_at(lane.file, buffer[:count], lane.position, needed_bytes)
                        written = count
                finally:
                    self._wrote(lane, follower, buffer, written)
                if not written:
                    raise too_short(self._descriptor.digest, lane.position, self._size)
                checkpoints.wrote(written)
                advise()
            if lane.position == self._size and reader.readinto(memoryview(bytearray(1))):
                raise too_long(self._descriptor.digest, self._size)

    def _wrote(self, lane: _Lane, follower: Follower, buffer: memoryview, count: int) -> None:
        if not count:
            return follower.give_back(buffer)
        with self._changed:
            position = lane.position
            lane.position += count
            self._written.add(position, lane.position)
            self._moved_bytes += count
            ready = self._written.prefix
        follower.wrote(buffer, count, position, ready)

    def _snapshot(self) -> tuple[Spans, bool]:
        with self._changed:
            return self._written.copy(), self._ordered

    def _advise(self, first: _Lane, follower: Follower, checkpoints: Checkpoints) -> None:
        """Open another lane, or let one end, as the measurements say."""
        before, hash_seconds = self._pace.wanted, follower.busy_seconds
        missing = self._size - self._written.total
        wanted = self._pace.advise(time.monotonic(), self._moved_bytes, missing, hash_seconds, self._borrow)
        if wanted > before:
            if self._ordered:
                self._ordered = False
                checkpoints.now()  # the journal knows of holes before there is one
            with self._changed:
                first.limit = min(first.limit, first.position + _SHORTEST_BYTES)
            lane = self._open_lane(_again(self._file))
            Thread(target=self._further_lane, args=(lane, follower, checkpoints), daemon=True).start()
        elif wanted < before:
            with self._changed:
                last = self._lanes[-1]
                if last is not first:
                    last.limit = min(last.limit, last.position + PIECE)

    def _borrow(self) -> bool:
        return isinstance(self._content, Divisible) and self._content.borrow()


def _keep_on() -> None:
    """Advice not to change anything."""


def _again(file: FileIO) -> FileIO:
    """The same open file, with its lock, to be closed apart."""
    again = FileIO(os.dup(file.fileno()), "r+b")
    again.name = file.name
    return again
