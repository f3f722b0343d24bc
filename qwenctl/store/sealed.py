"""The seal of a published blob: nobody may write to it, and its time bears a mark of its digest.

A write moves the time of the file, also where rights stop nobody; a copy by a tool that keeps times keeps the
seal. So one look at a file tells whether it may have been changed since it was proved. It is no defence
against somebody who forges it, and says nothing of a disk that fails by itself: that is found by hashing.
"""

import os
import stat
from io import FileIO
from typing import Final

from qwenctl.oci.digest import Digest
from qwenctl.store.disk import Disk

_SECOND: Final = 1_000_000_000  # nanoseconds


def seal(disk: Disk, file: FileIO, digest: Digest) -> None:
    """Seal a file that was proved to be `digest`. Raises: AccessDenied."""
    disk.seal(file)
    disk.mark(file, _mark(digest))


def is_sealed(status: os.stat_result, digest: Digest) -> bool:
    """Whether a file of this status was sealed as `digest` and not written to since.

    A file system that keeps no fractions of a second can only tell the rights.
    """
    fraction = status.st_mtime_ns % _SECOND
    return not stat.S_IMODE(status.st_mode) & 0o222 and fraction in (_mark(digest), 0)


def _mark(digest: Digest) -> int:
    """Nanoseconds within a second, the same for one digest at all times; never zero."""
    return 1 + int(digest.hex[:12], 16) % (_SECOND - 1)
