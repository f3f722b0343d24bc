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
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, Conflict, DigestMismatch, IntegrityError, QwenctlError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Verifier, verify
from qwenctl.oci.manifest import MANIFEST_LIMIT
from qwenctl.oci.target import PIECE, Content, Divisible, read_bytes
from qwenctl.store.disk import is_at, path_of, translated, try_lock
from qwenctl.store.footprint import BLOCK
from qwenctl.store.journal import Journal
from qwenctl.store.layout import Layout
from qwenctl.store.receive import Receiver
from qwenctl.store.sealed import seal
from qwenctl.store.spans import Spans

_LOOK_SECONDS: Final = 0.1  # between two looks at what another process brings

Check = Callable[[bytes], None]
"""Looks at a verified manifest just before it becomes visible; raises to keep it out."""


def ingest(layout: Layout, descriptor: Descriptor, content: Content, check: Check) -> None:
    """Bring `content` into the layout under its digest; at once when it is there.

    What an earlier attempt left is taken over after it has been hashed again, and only the rest is asked
    for. Interrupted, the partial file stays for the next attempt; with the wrong bytes it goes.

    Raises: SizeMismatch, DigestMismatch, DiskFull, AccessDenied; whatever `content` and `check` raise.
    """
    waits = content.wait if isinstance(content, Divisible) else None
    with _reserved(layout, descriptor, waits) as partial:
        if partial is None:
            return
        _fill(layout, descriptor, partial, content)
        if descriptor.is_manifest:
            _check(partial, check)
        _publish(layout, descriptor, partial)


def adopt(layout: Layout, descriptor: Descriptor, path: Path) -> None:
    """Make the file at `path`, on the same file system, the blob: proved, but not copied.

    The file is gone from `path` afterwards; after an error it is still there. Its writer has closed it.

    Raises: SizeMismatch, DigestMismatch, AccessDenied.
    """
    with _reserved(layout, descriptor) as partial:
        if partial is None:
            return layout.disk.unlink(path)
        with translated(path):
            file = path.open("r+b", buffering=0)
        with file:
            verifier = Verifier(descriptor.digest, descriptor.size)
            _rehash(file, verifier)
            verifier.finish()
            _publish(layout, descriptor, file)
        layout.disk.unlink(layout.partial(descriptor.digest))


def present(layout: Layout, descriptor: Descriptor) -> bool:
    """Whether the blob is here with the size it should have; an empty or short file is not there.

    A manifest is small enough to be hashed each time, so a damaged one is not there either.
    """
    path = layout.blob(descriptor.digest)
    try:
        if path.stat().st_size != descriptor.size:
            return False
        if descriptor.is_manifest:
            raw = read_bytes(path.open("rb", buffering=0), MANIFEST_LIMIT)
            verify(raw, descriptor.digest, descriptor.size)
    except (OSError, IntegrityError):
        return False
    return True


@contextmanager
def _reserved(
    layout: Layout, descriptor: Descriptor, waits: Callable[[int], None] | None = None
) -> Iterator[FileIO | None]:
    """The partial file, ours alone; None when the blob is here, perhaps since we began to wait.

    `waits` is told now and then how much of it another process has brought.
    """
    path = layout.partial(descriptor.digest)
    while not present(layout, descriptor):
        layout.disk.make_directory(layout.ingests)
        with _locked(path, waits) as partial:
            if partial is None:
                continue
            if present(layout, descriptor):  # published between the first look and the lock
                layout.disk.unlink(path)
                Journal.beside(layout.disk, path).remove()
                break
            try:
                yield partial
            except BaseException:
                if not _size(partial):
                    layout.disk.unlink(path)
                    Journal.beside(layout.disk, path).remove()
                raise
            return
    yield None


@contextmanager
def _locked(path: Path, waits: Callable[[int], None] | None) -> Iterator[FileIO | None]:
    """The file at `path`, made if need be, once nobody else holds it; None when that one moved it away."""
    with translated(path):
        file = _open(path)
    with file:
        while waits and not _try_lock(path, file):
            waits(os.fstat(file.fileno()).st_blocks * BLOCK)
            time.sleep(_LOOK_SECONDS)
        with translated(path):
            fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            held = is_at(path, file)
        yield file if held else None


def _try_lock(path: Path, file: FileIO) -> bool:
    with translated(path):
        return try_lock(file.fileno())


def _open(path: Path) -> FileIO:
    def create(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT, 0o600)

    try:
        return open(path, "r+b", buffering=0, opener=create)
    except PermissionError:
        with suppress(FileNotFoundError):  # read-only: its writer died just before the rename, or lives
            path.chmod(0o600)
        return open(path, "r+b", buffering=0, opener=create)


def _size(file: FileIO) -> int:
    return os.fstat(file.fileno()).st_size


def _fill(layout: Layout, descriptor: Descriptor, partial: FileIO, content: Content) -> None:
    """Complete the partial file; once more from the start when a kept part or a seam was the damaged one."""
    if _size(partial) > descriptor.size:
        _empty(partial)
    journal = Journal.beside(layout.disk, path_of(partial))
    kept = journal.trusted(_size(partial))
    receiver = Receiver(layout.disk, partial, journal, descriptor, content, kept)
    try:
        return receiver.run()
    except DigestMismatch:
        _empty(partial)
        journal.remove()
        if not receiver.doubtful:
            raise
    try:
        Receiver(layout.disk, partial, journal, descriptor, content, Spans()).run(divide=False)
    except DigestMismatch:
        _empty(partial)
        raise


def _rehash(file: FileIO, verifier: Verifier) -> None:
    """Take what is in the file already, and stay at its end."""
    buffer = memoryview(bytearray(PIECE))
    with translated(path_of(file)):
        file.seek(0)
        while count := file.readinto(buffer):
            verifier.update(buffer[:count])


def _check(partial: FileIO, check: Check) -> None:
    """Let `check` see the manifest; one that it refuses is not kept, it is quickly had again."""
    path = path_of(partial)
    with translated(path):
        raw = read_bytes(path.open("rb", buffering=0), MANIFEST_LIMIT)
    try:
        check(raw)
    except QwenctlError:
        _empty(partial)
        raise


def _publish(layout: Layout, descriptor: Descriptor, file: FileIO) -> None:
    """Make the content durable, then visible, then its name durable: in this order and no other."""
    source, target = path_of(file), layout.blob(descriptor.digest)
    layout.disk.make_directory(target.parent)
    layout.disk.sync(file)
    seal(layout.disk, file, descriptor.digest)
    try:
        if not is_at(source, file):  # what is there now has not been proved
            raise Conflict(f"`{source}` was replaced by another program", hint="run the same command again")
        layout.disk.publish(source, target)
    except (AccessDenied, Conflict):
        if not present(layout, descriptor):
            raise
        layout.disk.sync_directory(target.parent)  # where locks do nothing another process was first
    Journal.beside(layout.disk, layout.partial(descriptor.digest)).remove()


def _empty(partial: FileIO) -> None:
    """Forget what is in the partial file, unless it has a name by now, where locks do nothing."""
    if is_at(path_of(partial), partial):
        with translated(path_of(partial)):
            partial.truncate(0)
