"""The write session of one blob: reserve, append or resume, verify, publish.

    ingest/<algorithm>-<hex>   grows   →   blobs/<algorithm>/<hex>   appears whole, read-only

The partial file is its own lock: who holds it downloads, another process waits and then finds the blob.
Writers write at positions, not at the end: should a file system's locks not work, two of them write the
same bytes to the same places, and each verifies all that it wrote.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from qwenctl.errors import DigestMismatch
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Verifier
from qwenctl.oci.target import PIECE, Content
from qwenctl.store.disk import publish, sync_directory, translated, try_lock
from qwenctl.store.layout import Layout

_WAIT_SECONDS: Final = 0.05  # between two looks at a reservation that another writer holds

Check = Callable[[Path], None]
"""Looks at verified content just before it becomes visible; raises to keep it out."""


def ingest(layout: Layout, descriptor: Descriptor, content: Content, check: Check) -> None:
    """Bring `content` into the layout under its digest; at once when it is there.

    What an earlier attempt left is taken over after it has been hashed again, and only the rest is asked
    for. Interrupted, the partial file stays for the next attempt; with the wrong bytes it goes.

    Raises: SizeMismatch, DigestMismatch, DiskFull, AccessDenied; whatever `content` and `check` raise.
    """
    with translated(layout.root), _reserved(layout, descriptor) as partial:
        if partial is None:
            return
        _fill(partial, descriptor, content)
        check(_partial_path(layout, descriptor))
        _commit(layout, descriptor, partial)


def present(layout: Layout, descriptor: Descriptor) -> bool:
    """Whether the blob is visible with the size it should have; an empty or short file is not there."""
    try:
        return layout.blob(descriptor.digest).stat().st_size == descriptor.size
    except OSError:
        return False


@contextmanager
def _reserved(layout: Layout, descriptor: Descriptor) -> Iterator[BinaryIO | None]:
    """The partial file, ours alone; None when the blob turned up meanwhile."""
    path = _partial_path(layout, descriptor)
    while not present(layout, descriptor):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as partial:
            if not try_lock(handle):
                time.sleep(_WAIT_SECONDS)
                continue
            if not _is_still_there(path, handle):
                continue  # it was published or discarded while we waited
            yield partial
            return
    yield None


def _is_still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _fill(partial: BinaryIO, descriptor: Descriptor, content: Content) -> None:
    """Complete the partial file; once more from the start when the kept part was the damaged one."""
    kept = os.fstat(partial.fileno()).st_size
    while True:
        try:
            return _receive(partial, descriptor, content, kept)
        except DigestMismatch:
            partial.truncate(0)
            if not kept:
                raise
            kept = 0


def _receive(partial: BinaryIO, descriptor: Descriptor, content: Content, kept: int) -> None:
    """Hash the `kept` bytes again, append the rest, verify all. A short end keeps what came."""
    if kept > descriptor.size:
        partial.truncate(0)
        kept = 0
    verifier = Verifier(descriptor.digest, descriptor.size)
    buffer = memoryview(bytearray(PIECE))
    partial.seek(0)
    while verifier.count < kept and (count := _readinto(partial, buffer)):
        verifier.update(buffer[:count])
    with content(verifier.count) as reader:
        while count := reader.readinto(buffer):
            verifier.update(buffer[:count])
            _write(partial, buffer[:count])
    verifier.finish()


def _readinto(file: BinaryIO, buffer: memoryview) -> int:
    return file.readinto(buffer) or 0  # type: ignore[attr-defined] # an unbuffered FileIO


def _write(file: BinaryIO, piece: memoryview) -> None:
    while piece:
        piece = piece[file.write(piece) :]


def _commit(layout: Layout, descriptor: Descriptor, partial: BinaryIO) -> None:
    target = layout.blob(descriptor.digest)
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        sync_directory(target.parent.parent)
    os.fsync(partial.fileno())
    os.fchmod(partial.fileno(), 0o444)
    publish(_partial_path(layout, descriptor), target)
    fcntl.flock(partial.fileno(), fcntl.LOCK_UN)


def _partial_path(layout: Layout, descriptor: Descriptor) -> Path:
    return layout.ingests / f"{descriptor.digest.algorithm}-{descriptor.digest.hex}"
