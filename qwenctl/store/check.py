"""Whether a blob is what its name says, and what is done with one that is not.

A blob that is found damaged is moved aside, into `ingest/damaged-…`: from that moment it is not served,
pushed on or loaded, and the next pull sees that it is missing. Its bytes are neither changed nor cut, so a
process that has mapped it goes on; they stay as evidence until a prune.
"""

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, IntegrityError, InvalidDigest, Malformed, QwenctlError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import translated
from qwenctl.store.footprint import walk
from qwenctl.store.layout import Entries, Entry, Layout
from qwenctl.store.leftovers import DAMAGED_PREFIX, holding
from qwenctl.store.sealed import is_sealed, seal

_PIECE: Final = 4 << 20
"""Bytes read at a time: from a cold NVMe disk 1.4 to 2 times as fast as pieces of 1 MiB."""
_DONTCACHE: Final = 0x80 if sys.platform == "linux" else 0
"""`RWF_DONTCACHE`: what was read does not stay in memory, what was there before does. Gigabytes of blobs
then push nothing out that the machine works with, and reading is no slower. Older kernels refuse the flag.
Source: Linux 6.14, include/uapi/linux/fs.h."""

Tell = Callable[[int], None]
"""Told how many bytes more have been read."""


class State(StrEnum):
    """What was found where a blob should be."""

    OK = "ok"
    MISSING = "missing"
    WRONG_SIZE = "wrong size"
    WRONG_DIGEST = "wrong digest"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a blob. `file` names the very file that was looked at: device, inode, size, change.

    `aside` says whether moving it aside is right: a file that only its rights keep from being read may be
    whole.
    """

    digest: Digest
    state: State
    size_bytes: int = 0
    detail: str = ""
    file: tuple[int, int, int, int] | None = None
    aside: bool = False


def check_blob(layout: Layout, digest: Digest, sizes: Collection[int] | None, tell: Tell) -> Finding:
    """Read a blob and say what it is. `sizes` are those that it may have, None for any.

    Nothing is changed. One that has another size is not read.
    """
    path = layout.blob(digest)
    try:
        with translated(path):
            file = _open(path)
    except AccessDenied as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Finding(digest, State.MISSING)
        return Finding(digest, State.UNREADABLE, 0, error.message)
    except IntegrityError as error:  # the disk fails
        return Finding(digest, State.UNREADABLE, 0, error.message, _identity_at(path), True)
    with file:
        try:
            return _check_file(file, path, digest, sizes, tell)
        except _Unreadable as error:
            return Finding(digest, State.UNREADABLE, 0, str(error), _identity_at(path), error.aside)


class _Unreadable(Exception):
    """The bytes cannot be had; the message says why, `aside` whether it is the disk that fails."""

    def __init__(self, error: QwenctlError) -> None:
        super().__init__(error.message)
        self.aside = isinstance(error, IntegrityError)


def _check_file(
    file: FileIO, path: Path, digest: Digest, sizes: Collection[int] | None, tell: Tell
) -> Finding:
    """What the open file of a blob is. Raises: _Unreadable."""
    status = os.fstat(file.fileno())
    found = Finding(digest, State.OK, status.st_size, file=_identity(status))
    if not stat.S_ISREG(status.st_mode):
        return replace(found, state=State.UNREADABLE, detail="not a file")
    if sizes is not None and status.st_size not in sizes:
        detail = _size_text(status.st_size, sizes)
        return replace(found, state=State.WRONG_SIZE, detail=detail, aside=True)
    actual = _hash(file, path, digest, status.st_size, tell)
    if actual != digest.hex:  # read twice before it is believed: gigabytes would be fetched again
        actual = _hash(file, path, digest, status.st_size, lambda count: None)
    if actual != digest.hex:
        detail = f"its content is {digest.algorithm}:{actual}"
        return replace(found, state=State.WRONG_DIGEST, detail=detail, aside=True)
    return found


def set_aside(layout: Layout, finding: Finding) -> Path | None:
    """Move the damaged file out of service; where it is now.

    None when the file is another one by now, or a process is downloading the blob, which will replace it.
    Raises: AccessDenied for a store that can only be read.
    """
    path = layout.blob(finding.digest)
    # The lock of the index: no collection meanwhile. The lock of the download: nobody publishes meanwhile.
    with layout.lock(), holding(layout, finding.digest) as held:
        if held is None or finding.file is None or _identity_at(path) != finding.file:
            return None
        name = f"{DAMAGED_PREFIX}{finding.digest.algorithm}-{finding.digest.hex}.{time.time_ns()}"
        layout.disk.rename(path, layout.ingests / name)
        layout.disk.sync_directory(path.parent)
    return layout.ingests / name


def examine(
    layout: Layout, digest: Digest, sizes: Collection[int] | None, tell: Tell
) -> tuple[Finding, Path | None]:
    """Check a blob, and move it aside when it is damaged; where to, None when it was left in its place.

    A blob that another process replaces while we look is looked at again.
    """
    while True:
        finding = check_blob(layout, digest, sizes, tell)
        if not finding.aside:
            return finding, None
        try:
            moved = set_aside(layout, finding)
        except AccessDenied:
            return finding, None
        if moved is not None or _identity_at(layout.blob(digest)) == finding.file:
            return finding, moved


def suspects(layout: Layout, descriptors: Iterable[Descriptor]) -> list[Descriptor]:
    """Those of the blobs that have their size and yet may not be what they were, by a look at each file.

    What we publish is sealed. One that is not was written to since, or came from another tool. What is
    missing or has another size is not listed: it is not there for anybody.
    """
    found = []
    for item in {item.digest: item for item in descriptors}.values():
        with suppress(OSError):
            status = layout.blob(item.digest).stat()
            if status.st_size == item.size and not is_sealed(status, item.digest):
                found.append(item)
    return found


def settle(
    layout: Layout, descriptors: Iterable[Descriptor], tell: Tell = lambda count: None
) -> list[Finding]:
    """Prove the suspects among the blobs; the findings about those that were damaged, which are set aside.

    One that is whole is sealed, so that it is read once and not at every pull.
    """
    damaged = []
    for item in suspects(layout, descriptors):
        finding, _ = examine(layout, item.digest, (item.size,), tell)
        if finding.state is State.OK:
            _seal(layout, finding)
        elif finding.state is not State.MISSING:
            damaged.append(finding)
    return damaged


def list_blobs(layout: Layout) -> tuple[list[Digest], list[Path]]:
    """The digests of all files under `blobs/` that are named by one, and the files that are not, sorted."""
    digests, strays = [], []
    for found in walk(layout.blobs):
        if found.is_directory:
            continue
        parts = found.path.relative_to(layout.blobs).parts
        try:
            digests.append(Digest.parse(":".join(parts)))
        except InvalidDigest:
            strays.append(found.path)
    return sorted(digests), sorted(strays)


def readable_entries(layout: Layout) -> tuple[Entries, list[str]]:
    """The entries of the index that can be read, and what is wrong with it or with the others.

    Raises: AccessDenied.
    """
    try:
        return layout.read().entries, []
    except Malformed as error:
        whole = error.message
    path = layout.root / "index.json"
    try:
        with translated(path):
            document = json.loads(path.read_bytes())
        listed = list(document["manifests"])
    except (QwenctlError, ValueError, RecursionError, LookupError, TypeError):
        return (), [whole]
    entries, problems = [], []
    for number, item in enumerate(listed):
        try:
            entries.append(Entry.parse(item, f"manifests[{number}]"))
        except Malformed as error:
            problems.append(error.message)
    return tuple(entries), problems or [whole]


def _seal(layout: Layout, finding: Finding) -> None:
    path = layout.blob(finding.digest)
    with suppress(AccessDenied), translated(path), _open(path) as file:
        status = os.fstat(file.fileno())
        if _identity(status) == finding.file and status.st_nlink == 1:  # another name may be somebody else's
            seal(layout.disk, file, finding.digest)


def _open(path: Path) -> FileIO:
    """The file at `path`; what is no file does not make us wait for its other end."""
    return FileIO(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def _hash(file: FileIO, path: Path, digest: Digest, size_bytes: int, tell: Tell) -> str:
    """The hex digest of a file from its start. Raises: _Unreadable; what `tell` raises, as it is."""
    hasher = hashlib.new(digest.algorithm)
    buffer = memoryview(bytearray(min(_PIECE, size_bytes + 1)))
    flags, position = _DONTCACHE, 0
    while True:
        try:
            with translated(path):
                count = (
                    os.preadv(file.fileno(), [buffer], position, flags) if flags else file.readinto(buffer)
                )
        except QwenctlError as error:
            if not flags or position:
                raise _Unreadable(error) from error
            flags = 0  # an older kernel, or a file system without the flag; a broken disk fails again
            continue
        if not count:
            return hasher.hexdigest()
        hasher.update(buffer[:count])
        position += count
        tell(count)


def _size_text(size_bytes: int, sizes: Collection[int]) -> str:
    return f"{size_bytes} bytes, not {' or '.join(str(size) for size in sorted(sizes))}"


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _identity_at(path: Path) -> tuple[int, int, int, int] | None:
    try:
        return _identity(path.stat())
    except OSError:
        return None
