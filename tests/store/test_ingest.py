"""The write session: resuming, sharing, order of effects, a disk that fails."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from qwenctl.errors import (
    AccessDenied,
    Conflict,
    DigestMismatch,
    IntegrityError,
    QwenctlError,
    SizeMismatch,
)
from qwenctl.oci.descriptor import OCI_MANIFEST, Descriptor
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.target import PIECE, Content, Reader, content_of
from qwenctl.store.disk import Disk
from qwenctl.store.gc import collect
from qwenctl.store.store import Store
from tests.contracts.target import (
    BLOB,
    BrokenOff,
    Interrupted,
    push_artifact,
    push_bytes,
    some_bytes,
    untouchable,
)
from tests.store.store_builders import REFERENCE, blobs, prove, tagged

RAW = some_bytes()
DESCRIPTOR = Descriptor.of(RAW, BLOB)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def interrupt(store: Store, raw: bytes, descriptor: Descriptor = DESCRIPTOR) -> Path:
    """Leave `raw` as what an interrupted push kept; the partial file."""
    with pytest.raises(BrokenOff):
        store.push(descriptor, lambda offset: Interrupted(raw[offset:]))
    return store.layout.partial(descriptor.digest)


class Asked:
    """Content that remembers from where it was asked for."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.offsets: list[int] = []

    def __call__(self, offset: int) -> Reader:
        """The rest from `offset`."""
        self.offsets.append(offset)
        return content_of(self.raw)(offset)


@pytest.mark.parametrize("kept", [0, 1, PIECE - 1, PIECE, PIECE + 1, len(RAW) - 1])
def test_only_the_rest_is_asked_for(store: Store, kept: int) -> None:
    """What an interrupted push kept is not asked for again, at every border of pieces."""
    assert interrupt(store, RAW[:kept]).exists() is (kept > 0)
    content = Asked(RAW)
    store.push(DESCRIPTOR, content)
    assert content.offsets == [kept]
    assert store.blob_path(DESCRIPTOR).read_bytes() == RAW
    assert not list(store.layout.ingests.iterdir())


def test_a_whole_partial_needs_no_content(store: Store) -> None:
    """Killed between the last byte and the name, the blob is published without asking for anything."""
    interrupt(store, RAW)
    store.push(DESCRIPTOR, untouchable)
    assert store.exists(DESCRIPTOR)


@pytest.fixture
def ordinary_home() -> Iterator[Path]:
    """A directory of an ordinary user, whom modes stop, and who we are until the test ends."""
    with TemporaryDirectory() as name:
        if os.geteuid() != 0:
            yield Path(name)
            return
        os.chown(name, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


def test_a_sealed_partial_is_taken_over(ordinary_home: Path) -> None:
    """Killed between making it read-only and the rename, the partial file can still be opened."""
    store = Store.open(ordinary_home / "store")
    interrupt(store, RAW[:-5]).chmod(0o444)
    content = Asked(RAW)
    store.push(DESCRIPTOR, content)
    assert content.offsets == [len(RAW) - 5]


def test_a_store_that_may_not_be_written(ordinary_home: Path) -> None:
    """Without rights to write, reading works, and writing raises AccessDenied with the path and a hint."""
    store = Store.open(ordinary_home / "store")
    manifest = tagged(store)
    (store.path / ".lock").unlink()
    for path in (store.path, store.path / "ingest", *store.path.glob("blobs/*")):
        path.chmod(0o555)
    try:
        for again in (Store.open(store.path), Store.open(store.path, create=False)):
            assert again.resolve(REFERENCE) == manifest.descriptor
            assert again.exists(manifest.layers[0])
        acts: list[Callable[[], object]] = [
            lambda: push_bytes(store, RAW),
            lambda: store.untag(REFERENCE),
            lambda: store.tag(manifest.descriptor, REFERENCE),
            lambda: collect(store),
            lambda: store.protect([DESCRIPTOR]).__enter__(),
            lambda: Store.open(store.path / "new"),
        ]
        for act in acts:
            with pytest.raises(AccessDenied, match=str(store.path)) as caught:
                act()
            assert caught.value.hint
        store.blob_path(manifest.config).chmod(0)
        with pytest.raises(AccessDenied, match=manifest.config.digest.hex):
            store.fetch(manifest.config)
    finally:
        store.path.chmod(0o755)


@pytest.mark.parametrize("kept", [bytes(100), bytes(len(RAW)), RAW + b"too long"])
def test_a_wrong_partial_costs_one_more_attempt(store: Store, kept: bytes) -> None:
    """A kept part that turns out damaged is dropped, and the same push starts again by itself."""
    path = store.layout.partial(DESCRIPTOR.digest)
    store.layout.disk.make_directory(path.parent)
    path.write_bytes(kept)
    content = Asked(RAW)
    store.push(DESCRIPTOR, content)
    assert content.offsets[-1] == 0 and len(content.offsets) <= 2
    assert store.blob_path(DESCRIPTOR).read_bytes() == RAW


def test_damaged_content_leaves_no_partial(store: Store) -> None:
    """The bytes of a failed verification are not kept; those of a short one are."""
    with pytest.raises(DigestMismatch):
        store.push(DESCRIPTOR, content_of(RAW[::-1]))
    assert not list(store.layout.ingests.iterdir())
    with pytest.raises(SizeMismatch):
        store.push(DESCRIPTOR, content_of(RAW[:-7]))
    content = Asked(RAW)
    store.push(DESCRIPTOR, content)
    assert content.offsets == [len(RAW) - 7]


def test_errors_of_the_content_stay_what_they_are(store: Store) -> None:
    """An OSError of the content is not taken for one of the store."""

    def unplugged(offset: int) -> Reader:
        raise ConnectionResetError("unplugged")

    with pytest.raises(ConnectionResetError):
        store.push(DESCRIPTOR, unplugged)
    assert not list(store.layout.ingests.iterdir())


def test_writers_of_one_blob_share_it(store: Store) -> None:
    """While one writer receives a blob, another waits for it and never asks its own content."""
    started, go_on = threading.Event(), threading.Event()

    def slow(offset: int) -> Reader:
        started.set()
        assert go_on.wait(30)
        return content_of(RAW)(offset)

    first = threading.Thread(target=store.push, args=(DESCRIPTOR, slow))
    first.start()
    assert started.wait(30)
    second = threading.Thread(target=Store.open(store.path).push, args=(DESCRIPTOR, untouchable))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    push_bytes(store, b"another blob does not wait")
    go_on.set()
    for thread in (first, second):
        thread.join(30)
        assert not thread.is_alive()
    assert store.exists(DESCRIPTOR)
    assert not list(store.layout.ingests.iterdir())


def test_the_waiting_writer_takes_over(store: Store) -> None:
    """When the writer that others wait for fails, the next goes on where it stopped."""
    started, go_on = threading.Event(), threading.Event()
    content = Asked(RAW)

    class Failing(Interrupted):
        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # as `Reader` has it
            started.set()
            assert go_on.wait(30)
            return super().readinto(buffer)

    first = threading.Thread(
        target=pytest.raises, args=(BrokenOff, store.push, DESCRIPTOR, lambda _: Failing(RAW[:9]))
    )
    first.start()
    assert started.wait(30)
    second = threading.Thread(target=store.push, args=(DESCRIPTOR, content))
    second.start()
    go_on.set()
    first.join(30)
    second.join(30)
    assert content.offsets == [9]
    assert store.exists(DESCRIPTOR)


class PublishesFirst(Disk):
    """A disk on which another process publishes the blob just before our partial file is made."""

    def make_directory(self, path: Path) -> Path:
        """Let the other process run, once."""
        if path.name == "ingest" and not path.exists():
            push_bytes(Store.open(path.parent), RAW)
        return super().make_directory(path)


def test_a_blob_that_comes_while_we_reserve_is_found(tmp_path: Path) -> None:
    """Published between our first look and our reservation, the blob is not asked for again."""
    Store.open(tmp_path)
    store = Store.open(tmp_path, disk=PublishesFirst())
    store.push(DESCRIPTOR, untouchable)
    assert not list(store.layout.ingests.iterdir())


def test_what_was_not_proved_gets_no_name(store: Store) -> None:
    """When another program puts a file in the place of ours, that one is not published."""
    path = store.layout.partial(DESCRIPTOR.digest)

    def displacing(offset: int) -> Reader:
        path.unlink()
        path.write_bytes(RAW[::-1])
        return content_of(RAW)(offset)

    with pytest.raises(Conflict, match="replaced"):
        store.push(DESCRIPTOR, displacing)
    assert not blobs(store)
    push_bytes(store, RAW)
    prove(store)


def test_files_are_adopted(store: Store) -> None:
    """A file becomes the blob without being copied, read-only, and takes the place of a partial one."""
    interrupt(store, RAW[:9])
    path = store.layout.ingests / "upload-1"
    path.write_bytes(RAW)
    inode = path.stat().st_ino
    store.adopt(DESCRIPTOR, path)
    assert store.blob_path(DESCRIPTOR).stat().st_ino == inode
    assert store.blob_path(DESCRIPTOR).stat().st_mode & 0o777 == 0o444
    assert not list(store.layout.ingests.iterdir())
    prove(store)


def test_a_file_that_is_there_already_is_dropped(store: Store) -> None:
    """Adopting what the store has removes the file."""
    push_bytes(store, RAW)
    path = store.layout.ingests / "upload-1"
    path.write_bytes(RAW)
    store.adopt(DESCRIPTOR, path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("content", "kind"), [(RAW[::-1], DigestMismatch), (RAW[1:], SizeMismatch), (RAW + b"x", SizeMismatch)]
)
def test_wrong_files_are_not_adopted(store: Store, content: bytes, kind: type[QwenctlError]) -> None:
    """A file that is not the content stays where it is, and nothing is visible."""
    path = store.layout.disk.make_directory(store.layout.ingests) / "upload-1"
    path.write_bytes(content)
    with pytest.raises(kind):
        store.adopt(DESCRIPTOR, path)
    assert list(store.layout.ingests.iterdir()) == [path]
    assert not blobs(store)
    with pytest.raises(AccessDenied, match="upload-2"):
        store.adopt(DESCRIPTOR, path.with_name("upload-2"))


def test_a_lie_about_the_kind_is_refused(store: Store) -> None:
    """A manifest pushed under the media type of an index is refused."""
    manifest = push_artifact(store)
    raw = build_manifest(manifest.config, ()).raw
    lie = Descriptor.of(raw, "application/vnd.oci.image.index.v1+json")
    with pytest.raises(IntegrityError, match="but was served as"):
        store.push(lie, content_of(raw))
    assert not store.exists(Descriptor.of(raw, OCI_MANIFEST))


def test_pieces_may_be_small(store: Store) -> None:
    """A reader that gives a few bytes at a time, as a slow network does, changes nothing."""

    class Trickle(Interrupted):
        def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # as `Reader` has it
            return min(1000, max(0, len(RAW) - self.tell())) and super().readinto(buffer[:1000])

    trickle: Content = lambda offset: Trickle(RAW[offset:])  # noqa: E731
    store.push(DESCRIPTOR, trickle)
    assert store.blob_path(DESCRIPTOR).read_bytes() == RAW
