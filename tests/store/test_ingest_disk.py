"""The write session on a disk: the order of its effects, and a disk that fails."""

import errno
import os
import re
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

import pytest

from qwenctl.errors import (
    AccessDenied,
    DiskFull,
    IntegrityError,
    QwenctlError,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import content_of
from qwenctl.store.disk import Disk, free_bytes, translated
from qwenctl.store.store import Store
from tests.contracts.target import (
    BLOB,
    push_bytes,
    some_bytes,
)
from tests.store.store_builders import REFERENCE, blobs, prove, tagged

RAW = some_bytes()
DESCRIPTOR = Descriptor.of(RAW, BLOB)


class RecordingDisk(Disk):
    """A disk that remembers the order of its effects, by the last part of each path."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def sync(self, file: FileIO) -> None:
        """Remember and do."""
        name = Path(os.fsdecode(file.name)).name
        self.calls.append(("sync", re.sub(r"\.[0-9a-f]{8}\.draft$", ".draft", name)))
        super().sync(file)

    def seal(self, file: FileIO) -> None:
        """Remember and do."""
        self.calls.append(("seal", Path(os.fsdecode(file.name)).name))
        super().seal(file)

    def rename(self, source: Path, target: Path) -> None:
        """Remember and do."""
        self.calls.append(("rename", target.name))
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        """Remember and do."""
        self.calls.append(("sync directory", path.name))
        super().sync_directory(path)


def test_effects_come_in_order(tmp_path: Path) -> None:
    """Of each blob: content durable, read-only, named, name durable; then the same for the index."""
    disk = RecordingDisk()
    store = Store.open(tmp_path / "store", disk=disk)
    push_bytes(store, b"first, so that the directories are there")
    disk.calls.clear()
    manifest = tagged(store)

    def of_blob(digest: Digest) -> Iterator[tuple[str, str]]:
        yield "sync", f"sha256-{digest.hex}"
        yield "seal", f"sha256-{digest.hex}"
        yield "rename", digest.hex
        yield "sync directory", "sha256"

    pushed = (manifest.config.digest, manifest.layers[0].digest, manifest.descriptor.digest)
    assert disk.calls == [
        *(call for digest in pushed for call in of_blob(digest)),
        ("sync directory", "sha256"),
        ("sync", ".index.json.draft"),
        ("rename", "index.json"),
        ("sync directory", "store"),
    ]


def test_new_directories_are_durable(tmp_path: Path) -> None:
    """The directory of an algorithm is made durable before a blob is named in it."""
    disk = RecordingDisk()
    store = Store.open(tmp_path / "store", disk=disk)
    disk.calls.clear()
    store.push(Descriptor(BLOB, Digest.of(b"x", "sha512"), 1), content_of(b"x"))
    names = [name for kind, name in disk.calls if kind == "sync directory"]
    assert names == ["store", "blobs", "sha512"]


class FailingDisk(Disk):
    """A disk that fails from the `count`-th effect on, until it is mended."""

    def __init__(self, code: int, count: int) -> None:
        self.code = code
        self.left = count

    def _spend(self, path: Path) -> None:
        self.left -= 1
        if self.left < 0:
            with translated(path, 7):
                raise OSError(self.code, os.strerror(self.code))

    def write(self, file: FileIO, piece: memoryview, needed_bytes: int | None = None) -> None:
        """Write half of it and fail, or do."""
        if self.left <= 0:
            super().write(file, piece[: len(piece) // 2], needed_bytes)
        self._spend(Path(os.fsdecode(file.name)))
        super().write(file, piece, needed_bytes)

    def sync(self, file: FileIO) -> None:
        """Fail or do."""
        self._spend(Path(os.fsdecode(file.name)))
        super().sync(file)

    def rename(self, source: Path, target: Path) -> None:
        """Fail or do."""
        self._spend(target)
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        """Fail or do."""
        self._spend(path)
        super().sync_directory(path)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, IntegrityError),
        (errno.EROFS, AccessDenied),
        (errno.EACCES, AccessDenied),
        (errno.ENOLCK, AccessDenied),
    ],
)
def test_a_failing_disk_is_translated(tmp_path: Path, code: int, kind: type[QwenctlError]) -> None:
    """Each failure has its class, the path, and the next step; nothing is visible."""
    Store.open(tmp_path)
    store = Store.open(tmp_path, disk=FailingDisk(code, 1))
    with pytest.raises(kind, match="sha256-") as caught:
        push_bytes(store, RAW)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert not blobs(store)


@pytest.mark.parametrize("count", range(24))
def test_a_disk_may_fail_at_every_effect(tmp_path: Path, count: int) -> None:
    """Whichever effect is the first to fail, nothing wrong is visible, and the next attempt ends well."""
    Store.open(tmp_path)
    disk = FailingDisk(errno.ENOSPC, count)
    store = Store.open(tmp_path, disk=disk)
    try:
        tagged(store)
    except DiskFull:
        prove(Store.open(tmp_path))
    disk.left = 1000
    manifest = tagged(store)
    prove(store)
    assert store.resolve(REFERENCE) == manifest.descriptor
    assert not list(store.layout.ingests.iterdir())
    assert not list(tmp_path.glob(".*.draft"))


def test_a_full_disk_says_both_numbers(tmp_path: Path) -> None:
    """The message has what is missing and what is free."""
    with pytest.raises(DiskFull, match=r"7 B are missing, .* are free"):
        FailingDisk(errno.ENOSPC, 0).rename(tmp_path, tmp_path)
    assert free_bytes(tmp_path) > 0
    assert free_bytes(tmp_path / "a" / "b") == 0
