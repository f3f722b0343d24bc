"""The system calls that durability depends on, and what their errors mean to a person.

Measured on ext4 with its journal cut off: a rename without a prior fsync of the file leaves empty files
under final names; fsync of file, rename, fsync of the directory loses nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, DiskFull, IntegrityError, QwenctlError
from qwenctl.units import render_bytes

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_BROKEN: Final = frozenset({errno.EIO, errno.EBADMSG, errno.ESTALE, getattr(errno, "EUCLEAN", errno.EIO)})


@contextmanager
def translated(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turns an `OSError` about `path` into DiskFull, IntegrityError (a failing disk) or AccessDenied.

    `needed_bytes` is what is still to be written, for the message when the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise _translate(error, path, needed_bytes) from error


def _translate(error: OSError, path: Path, needed_bytes: int | None) -> QwenctlError:
    reason = (error.strerror or str(error)).lower()
    if error.errno in _FULL:
        needed = "" if needed_bytes is None else f": {render_bytes(needed_bytes)} are missing"
        return DiskFull(
            f"cannot write `{path}`, {reason}{needed}, {render_bytes(free_bytes(path))} are free",
            hint="what was downloaded is kept; free some space and run the same command again",
        )
    if error.errno in _BROKEN:
        return IntegrityError(f"`{path}` cannot be read or written: {reason}", hint="check the disk")
    return AccessDenied(
        f"`{path}` cannot be used: {reason}",
        hint="check its owner and rights, or set QWENCTL_STORE to another directory",
    )


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write beside `path`; 0 when the file system does not say."""
    try:
        status = os.statvfs(path if path.is_dir() else path.parent)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize


class Disk:
    """The calls whose order decides what a crash leaves behind. A test puts one of its own in this place."""

    def write(self, file: FileIO, piece: memoryview, needed_bytes: int | None = None) -> None:
        """Write all of `piece` at the position of `file`. See `translated` for `needed_bytes`."""
        with translated(path_of(file), needed_bytes):
            while piece:
                piece = piece[file.write(piece) :]

    def write_at(
        self, file: FileIO, piece: memoryview, position: int, needed_bytes: int | None = None
    ) -> None:
        """Write all of `piece` at `position` of `file`. Several threads may, at different places."""
        with translated(path_of(file), needed_bytes):
            while piece:
                count = os.pwrite(file.fileno(), piece, position)
                piece, position = piece[count:], position + count

    def sync_data(self, file: FileIO) -> None:
        """Make the bytes of `file` durable while it still grows; its times may be older after a crash."""
        with translated(path_of(file)):
            if hasattr(os, "fdatasync"):
                os.fdatasync(file.fileno())
                return
        self.sync(file)

    def sync(self, file: FileIO) -> None:
        """Make the content of `file` durable."""
        with translated(path_of(file)):
            full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone stops at the drive's cache
            if full is None:
                os.fsync(file.fileno())
            else:
                fcntl.fcntl(file.fileno(), full)

    def seal(self, file: FileIO) -> None:
        """Make `file` read-only for everyone."""
        with translated(path_of(file)):
            os.fchmod(file.fileno(), 0o444)

    def mark(self, file: FileIO, nanoseconds: int) -> None:
        """Set the fraction of a second in the time of the last change of `file`, which stays in the past."""
        with translated(path_of(file)):
            status = os.fstat(file.fileno())
            second = status.st_mtime_ns // 1_000_000_000 - 1
            os.utime(file.fileno(), ns=(status.st_atime_ns, second * 1_000_000_000 + nanoseconds))

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, atomically; an older file of that name is gone."""
        with translated(target):
            source.replace(target)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        with translated(path):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def unlink(self, path: Path) -> None:
        """Remove a file; without effect when it is gone already."""
        with translated(path):
            path.unlink(missing_ok=True)

    def publish(self, source: Path, target: Path) -> None:
        """Give a file, whole and synced, its final name, durably."""
        self.rename(source, target)
        self.sync_directory(target.parent)

    def replace_file(self, path: Path, content: bytes) -> None:
        """Replace a small file; readers and crashes see the old or the new one, never between.

        The caller holds the lock that makes it the only writer; where locks do nothing the last one wins.
        """
        draft = path.with_name(f".{path.name}.{os.urandom(4).hex()}.draft")
        with translated(draft):
            file = draft.open("wb", buffering=0)
        try:
            with file:
                self.write(file, memoryview(content))
                self.sync(file)
            self.publish(draft, path)
        except BaseException:
            self.unlink(draft)
            raise

    def make_directory(self, path: Path) -> Path:
        """`path` itself, made durably if it is not there."""
        if not path.is_dir():
            with translated(path):
                path.mkdir(parents=True, exist_ok=True)
            self.sync_directory(path.parent)
        return path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a lock file; waits for it. The kernel frees it with the process."""
    with translated(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with translated(path):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def try_lock(handle: int) -> bool:
    """Take the exclusive lock of an open file if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(path: Path, file: FileIO) -> bool:
    """Whether `path` still names the very file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def path_of(file: FileIO) -> Path:
    """The path that `file` was opened by."""
    return Path(os.fsdecode(file.name))
