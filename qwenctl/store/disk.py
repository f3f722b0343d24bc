"""The system calls that durability depends on, and what their errors mean to a person.

Measured on ext4 with its journal cut off: a rename without a prior fsync of the file leaves empty files
under final names; fsync of file, rename, fsync of the directory loses nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, DiskFull, IntegrityError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR})


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns an `OSError` about `path` into DiskFull, AccessDenied or IntegrityError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _FULL:
            raise DiskFull(
                f"no space left for `{path}`: {reason}",
                hint="what was downloaded is kept; free some space and run the same command again",
            ) from error
        if error.errno in _FORBIDDEN:
            raise AccessDenied(
                f"`{path}` cannot be used: {reason}",
                hint="check its owner and rights, or set QWENCTL_STORE to another directory",
            ) from error
        raise IntegrityError(f"`{path}`: {reason}", hint="check the disk") from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish(source: Path, target: Path) -> None:
    """Give a file, whole and fsynced, its final name, durably. An older file of that name is replaced."""
    source.replace(target)
    sync_directory(target.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a small file by `content`; readers and crashes see the old or the new one, never between."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        publish(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock of a lock file; waits for it. The kernel frees it with the process."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
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
