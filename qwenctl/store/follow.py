"""Hashing a file while it grows, in a second thread.

A piece that comes in order is handed over in its buffer, so nothing is read twice; what was there before, or
came out of order, is read back from the file as soon as everything before it is there.
"""

import os
import time
from collections import deque
from io import FileIO
from threading import Condition, Thread
from typing import Final

from qwenctl.errors import Interrupted
from qwenctl.oci.digest import Verifier
from qwenctl.oci.target import PIECE
from qwenctl.store.disk import path_of, translated

BUFFERS: Final = 8
"""Pieces that may wait to be hashed, or be filled, at one time: the memory that one blob takes."""


class Follower:
    """The hash of a file that others write. Any thread may call; who made it ends it.

    `verifier` is this thread's own until `finish`.
    """

    def __init__(self, file: FileIO, verifier: Verifier) -> None:
        self._file = file
        self._verifier = verifier
        self._changed = Condition()
        self._free = [memoryview(bytearray(PIECE)) for _ in range(BUFFERS)]
        self._queue: deque[memoryview] = deque()
        self._claimed = 0  # bytes that are hashed, or whose turn is fixed
        self._ready = 0  # bytes from the first on that are in the file
        self._given_up = False
        self._error: BaseException | None = None
        self._busy_seconds = 0.0
        self._thread = Thread(target=self._work, name="hash", daemon=True)
        self._thread.start()

    @property
    def busy_seconds(self) -> float:
        """Processor time spent on hashing so far."""
        return self._busy_seconds

    def buffer(self) -> memoryview:
        """A buffer of a MiB to fill; waits while all of them wait to be hashed.

        Raises: what hashing raised; Interrupted once it was given up.
        """
        with self._changed:
            while not self._free and self._error is None and not self._given_up:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if self._given_up:
                raise Interrupted("the copy was stopped")
            return self._free.pop()

    def give_back(self, buffer: memoryview) -> None:
        """Return a buffer that was not filled."""
        with self._changed:
            self._free.append(buffer)
            self._changed.notify_all()

    def wrote(self, buffer: memoryview, count: int, position: int, ready: int) -> None:
        """The first `count` bytes of `buffer` are in the file at `position`, all before `ready` is too."""
        with self._changed:
            if position == self._claimed:
                self._queue.append(buffer[:count])
                self._claimed += count
            else:
                self._free.append(buffer)
            self._ready = max(self._ready, ready)  # several write: who is told first may have looked last
            self._changed.notify_all()

    def begin(self, ready: int) -> None:
        """The first `ready` bytes are in the file from before."""
        with self._changed:
            self._ready = ready
            self._changed.notify_all()

    def finish(self) -> None:
        """Wait until everything is hashed, and compare. Raises: SizeMismatch, DigestMismatch."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._verifier.finish()

    def give_up(self) -> None:
        """End the thread; waits for the piece that it is at."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        own = memoryview(bytearray(PIECE))
        try:
            while (turn := self._next()) is not None:
                if isinstance(turn, tuple):
                    self._read_back(own, *turn)
                    continue
                self._hash(turn)
                self.give_back(memoryview(turn.obj))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that writes, which raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self) -> memoryview | tuple[int, int] | None:
        """A buffer, or a stretch of the file to be read back; None at the end."""
        with self._changed:
            while not self._given_up:
                if self._queue:
                    return self._queue.popleft()
                if self._claimed < self._ready:
                    first = self._claimed
                    self._claimed = min(self._ready, first + PIECE)
                    return first, self._claimed
                if self._claimed >= self._verifier.size:
                    return None
                self._changed.wait()
            return None

    def _read_back(self, buffer: memoryview, first: int, end: int) -> None:
        while first < end:
            with translated(path_of(self._file)):
                count = read_at(self._file, buffer[: end - first], first)
            self._hash(buffer[:count])
            first += count
            if not count:
                return  # cut off by another program: the verifier finds it too short

    def _hash(self, piece: memoryview) -> None:
        before = time.thread_time()
        self._verifier.update(piece)
        self._busy_seconds += time.thread_time() - before


def read_at(file: FileIO, buffer: memoryview, position: int) -> int:
    """Fill the front of `buffer` from a place of `file`; the number of bytes."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], position)
    piece = os.pread(file.fileno(), len(buffer), position)
    buffer[: len(piece)] = piece
    return len(piece)
