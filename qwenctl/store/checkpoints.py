"""Checkpoints: what was written becomes durable, then the journal says so, in a thread of its own."""

import time
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from threading import Condition, Thread
from typing import Final

from qwenctl.errors import QwenctlError
from qwenctl.store.disk import Disk
from qwenctl.store.journal import Journal
from qwenctl.store.spans import Spans

EAGER_BYTES: Final = 8 << 20
"""So much is worth a checkpoint at once."""
LIMIT_BYTES: Final = 24 << 20
"""More than that is never at stake: writers wait for the disk."""
LONGEST_SECONDS: Final = 1.0
"""On a slow line a checkpoint comes after this time."""

Written = Callable[[], tuple[Spans, bool]]
"""What is in the file at this moment (a copy), and whether it has no holes."""


class Checkpoints:
    """Keeps a journal up to date while others write. Any thread may call; who made it ends it."""

    def __init__(self, disk: Disk, file: FileIO, journal: Journal, written: Written) -> None:
        self._disk, self._file, self._journal, self._written = disk, file, journal, written
        self._changed = Condition()
        self._pending_bytes = 0
        self._last = time.monotonic()
        self._wanted = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._work, name="checkpoints", daemon=True)
        self._save(0, wanted=False)
        self._thread.start()

    def wrote(self, count: int) -> None:
        """So many bytes more are in the file; waits while too many are at stake.

        Raises: what the disk raised.
        """
        with self._changed:
            first = not self._pending_bytes  # the thread sleeps until there is one
            self._pending_bytes += count
            if first or self._pending_bytes >= EAGER_BYTES:
                self._changed.notify_all()
            while self._pending_bytes > LIMIT_BYTES and self._error is None and not self._ended:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def now(self) -> None:
        """A checkpoint before the next byte is written. Raises: what the disk raised."""
        with self._changed:
            self._wanted = True
            self._changed.notify_all()
            while self._wanted and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error

    def end(self, *, save: bool) -> None:
        """End the thread; with `save` after a last checkpoint, whose failure is nobody's concern any more."""
        with self._changed:
            self._ended = True
            pending, error = self._pending_bytes, self._error
            self._changed.notify_all()
        self._thread.join()
        if save and pending and error is None:
            with suppress(QwenctlError):
                self._save(pending, wanted=False)

    def _work(self) -> None:
        try:
            while (due := self._due()) is not None:
                self._save(due[0], wanted=due[1])
        except BaseException as error:  # noqa: BLE001 - handed to the thread that writes, which raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _due(self) -> tuple[int, bool] | None:
        """How much is to be made durable, once it is time, and whether somebody waits; None at the end."""
        with self._changed:
            while not self._ended:
                left = LONGEST_SECONDS - (time.monotonic() - self._last)
                late = self._pending_bytes > 0 and left <= 0
                if self._wanted or late or self._pending_bytes >= EAGER_BYTES:
                    return self._pending_bytes, self._wanted
                self._changed.wait(left if self._pending_bytes else None)
            return None

    def _save(self, pending: int, *, wanted: bool) -> None:
        spans, ordered = self._written()
        self._disk.sync_data(self._file)
        self._journal.write(spans, ordered=ordered)
        with self._changed:
            self._pending_bytes -= pending
            self._last = time.monotonic()
            self._wanted = self._wanted and not wanted
            self._changed.notify_all()
