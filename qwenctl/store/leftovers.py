"""What is in a store beside content and names, and how it is taken away without harm to who is at work.

    ingest/<algorithm>-<hex>            a download that is not whole; its lock is held by who downloads
    ingest/<algorithm>-<hex>.…          what belongs to it, such as its journal
    ingest/upload-<uuid>                a push to the embedded registry that is not whole
    ingest/damaged-<algorithm>-<hex>.…  a blob that was found damaged and moved aside
    leases/…                            void when nobody holds its lock
    .….draft                            a small file that was being replaced when its writer was killed

Files of other names are not ours and stay.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Final

from qwenctl.errors import InvalidDigest
from qwenctl.oci.digest import Digest
from qwenctl.store.disk import is_at, translated, try_lock
from qwenctl.store.footprint import Footprint, measure
from qwenctl.store.layout import Layout

DAMAGED_PREFIX: Final = "damaged-"
_UPLOAD: Final = re.compile(r"upload-[0-9a-f-]+")
_PARTIAL: Final = re.compile(r"\.?(sha\d+)-([0-9a-f]+)(?:\..*)?")


class Kind(StrEnum):
    """What a leftover is."""

    PARTIAL = "partial"
    UPLOAD = "upload"
    DAMAGED = "damaged"
    DRAFT = "draft"


@dataclass(frozen=True, slots=True)
class Leftover:
    """One leftover: the files that belong together, the one that names it first when it is there.

    `digest` is what it was to become, or was; None for an upload and a draft.
    """

    kind: Kind
    name: str
    digest: Digest | None
    files: tuple[Footprint, ...]

    @property
    def changed_seconds(self) -> float:
        """When its files were last changed, or the blob moved aside, in seconds since the epoch."""
        moved = self.name.rpartition(".")[2]
        if self.kind is Kind.DAMAGED and moved.isdecimal():
            return int(moved) / 1e9
        return max(file.changed_seconds for file in self.files)

    @property
    def disk_bytes(self) -> int:
        """What its files take on disk."""
        return sum(file.disk_bytes for file in self.files)

    @property
    def present_bytes(self) -> int:
        """The bytes of content that are there."""
        return sum(file.present_bytes for file in self.files if file.path.name == self.name)


def list_leftovers(layout: Layout) -> list[Leftover]:
    """The leftovers of a store at this moment, by name. Nothing is locked or changed."""
    grouped: dict[tuple[Kind, str, Digest | None], list[Footprint]] = defaultdict(list)
    for file in _files(layout.ingests):
        if (key := _classify(file.path.name)) is not None:
            grouped[key].append(file)
    for file in _files(layout.root, ".*.draft"):
        grouped[Kind.DRAFT, file.path.name, None].append(file)
    found = [
        Leftover(kind, name, digest, tuple(sorted(files, key=lambda item: item.path.name != name)))
        for (kind, name, digest), files in grouped.items()
    ]
    return sorted(found, key=lambda item: (item.kind, item.name))


def is_busy(layout: Layout, leftover: Leftover) -> bool:
    """Whether a process is at work on it now, as far as its lock tells: an upload has none."""
    if leftover.kind is not Kind.PARTIAL:
        return False
    try:
        file = (layout.ingests / leftover.name).open("rb", buffering=0)
    except OSError:
        return False
    with file:
        return not try_lock(file.fileno())


def remove(layout: Layout, leftover: Leftover) -> bool:
    """Take a leftover away; whether it is gone. A partial download stays while a process holds it.

    What waits for the lock of a partial file looks again, once it has it, whether the file is still the
    one at its path, so it begins anew: nothing is written to a file without a name.
    """
    if leftover.kind is Kind.PARTIAL:
        return _remove_partial(layout, leftover)
    if leftover.kind is Kind.DRAFT:
        with layout.lock():  # who replaces a file of the root holds it: whatever is there now was left
            _unlink_all(layout, leftover)
        return True
    _unlink_all(layout, leftover)
    return True


@contextmanager
def holding(layout: Layout, digest: Digest) -> Iterator[FileIO | None]:
    """The lock that a download of this content holds; None, at once, when a process has it.

    The file that carries it is made when it is not there, and goes again if it is still empty.
    """
    layout.disk.make_directory(layout.ingests)
    path = layout.partial(digest)
    with translated(path):
        file = FileIO(path, "rb", opener=_open)
    with file:
        held = try_lock(file.fileno()) and is_at(path, file)
        try:
            yield file if held else None
        finally:
            if held and is_at(path, file) and not os.fstat(file.fileno()).st_size:
                layout.disk.unlink(path)


def _remove_partial(layout: Layout, leftover: Leftover) -> bool:
    assert leftover.digest is not None
    with holding(layout, leftover.digest) as held:
        if held is None:
            return False
        # The file last: a partial file without its journal is hashed again, a journal without its file
        # would speak for the next one.
        for pattern in (f"{leftover.name}.*", f".{leftover.name}.*", leftover.name):
            for path in layout.ingests.glob(pattern):
                layout.disk.unlink(path)
    return True


def _open(name: str, flags: int) -> int:
    """Open or make the file; only to be read when it is sealed: its writer died just before the end."""
    try:
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        return os.open(name, flags | os.O_CLOEXEC)


def _unlink_all(layout: Layout, leftover: Leftover) -> None:
    for file in leftover.files:
        layout.disk.unlink(file.path)


def _classify(name: str) -> tuple[Kind, str, Digest | None] | None:
    """The kind of a file in `ingest/`, the name that its group goes by, and its digest; None for others'."""
    if _UPLOAD.fullmatch(name):
        return Kind.UPLOAD, name, None
    if name.startswith(DAMAGED_PREFIX):
        digest = _digest(name.removeprefix(DAMAGED_PREFIX))
        return (Kind.DAMAGED, name, digest) if digest else None
    digest = _digest(name)
    return (Kind.PARTIAL, f"{digest.algorithm}-{digest.hex}", digest) if digest else None


def _digest(name: str) -> Digest | None:
    match = _PARTIAL.fullmatch(name)
    try:
        return Digest.parse(f"{match[1]}:{match[2]}") if match else None
    except InvalidDigest:
        return None


def _files(directory: Path, pattern: str = "*") -> list[Footprint]:
    with translated(directory):
        paths = sorted(directory.glob(pattern))
    return [file for path in paths if (file := measure(path)) is not None and not file.is_directory]
