"""What files take on disk: each file once, however many names it has.

The size of a file is the number of its bytes; what it takes on disk is its blocks, which are fewer for a file
with holes. Two names of one file (hard links) take its blocks once, and freeing one of them frees nothing.
"""

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qwenctl.store.disk import translated

BLOCK: Final = 512
"""Bytes. Source: POSIX leaves the unit of `st_blocks` open; Linux, macOS and the BSDs use 512."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One name in the file system and what is behind it. A symbolic link is itself, not what it points to."""

    path: Path
    size_bytes: int
    disk_bytes: int
    changed_seconds: float
    """When the content was last changed, in seconds since the epoch."""
    file: tuple[int, int]
    """Device and inode: the same for all names of one file."""
    names: int
    is_directory: bool

    @property
    def present_bytes(self) -> int:
        """The bytes that were written: a file with holes has fewer than its size says."""
        return min(self.size_bytes, self.disk_bytes)


def measure(path: Path) -> Footprint | None:
    """The footprint of one path; None when there is nothing. Raises: AccessDenied, IntegrityError."""
    with translated(path):
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
    return _footprint(path, status)


def walk(root: Path) -> Iterator[Footprint]:
    """`root` and everything under it. What goes while we look is left out.

    Raises: AccessDenied, IntegrityError for a directory that cannot be read.
    """
    first = measure(root)
    if first is None:
        return
    yield first
    waiting = [root]
    while waiting:
        for found in _inside(waiting.pop()):
            yield found
            if found.is_directory:
                waiting.append(found.path)


def total_disk_bytes(footprints: Iterable[Footprint]) -> int:
    """What all of them take, each file once."""
    return sum({item.file: item.disk_bytes for item in footprints}.values())


def freed_disk_bytes(footprints: Iterable[Footprint]) -> int:
    """What the disk gets back when these names go: nothing for a file that has a further name."""
    listed = list(footprints)
    going = Counter(item.file for item in listed)
    gone = {item.file: item.disk_bytes for item in listed if going[item.file] >= item.names}
    return sum(gone.values())


def _inside(directory: Path) -> list[Footprint]:
    found = []
    with translated(directory):
        try:
            with os.scandir(directory) as entries:
                listed = list(entries)
        except FileNotFoundError:
            return []
        for entry in listed:
            try:
                found.append(_footprint(Path(entry.path), entry.stat(follow_symlinks=False)))
            except FileNotFoundError:
                continue
    return found


def _footprint(path: Path, status: os.stat_result) -> Footprint:
    return Footprint(
        path,
        status.st_size,
        status.st_blocks * BLOCK,
        status.st_mtime,
        (status.st_dev, status.st_ino),
        status.st_nlink,
        stat.S_ISDIR(status.st_mode),
    )
