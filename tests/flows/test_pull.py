"""Pull: what is here and whole is left alone, what is damaged is put right."""

import os
from pathlib import Path

import pytest

from qwenctl.errors import DigestMismatch, DiskFull
from qwenctl.flows.copy import BlobStarted, CopyEvent
from qwenctl.flows.pull import check_expected, pull
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, MemoryTarget, content_of
from qwenctl.store.disk import free_bytes
from qwenctl.store.store import Store
from tests.builders import Model, model
from tests.contracts.target import BLOB, push_bytes
from tests.store.store_builders import prove

NAME = Reference.parse("me/model:v1")


@pytest.fixture
def made() -> Model:
    """A model."""
    return model(padding=3_000_000)


@pytest.fixture
def remote(made: Model) -> MemoryTarget:
    """A registry that has it."""
    target = MemoryTarget()
    made.put(target, NAME)
    return target


@pytest.fixture
def store(tmp_path: Path, remote: MemoryTarget) -> Store:
    """A store that has it, too."""
    store = Store.open(tmp_path / "store")
    pull(NAME, remote, store)
    return store


def write_into(path: Path) -> None:
    """Change a byte as root can: the rights stay as they are."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\xff")
    path.chmod(mode)


def cut(path: Path) -> None:
    """Take the last byte away."""
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    """What a crash leaves of a file that nobody synced."""
    path.chmod(0o644)
    os.truncate(path, 0)


@pytest.mark.parametrize("harm", [write_into, cut, empty, Path.unlink])
@pytest.mark.parametrize("place", ["weights", "config", "manifest"])
def test_what_is_damaged_is_fetched_again(
    store: Store, remote: MemoryTarget, made: Model, harm: object, place: str
) -> None:
    """A changed, short, empty or missing blob, and nothing else, comes again; then all is whole."""
    descriptor = {
        "weights": made.manifest.layers[0],
        "config": made.manifest.config,
        "manifest": made.manifest.descriptor,
    }[place]
    assert callable(harm)
    harm(store.layout.blob(descriptor.digest))
    moved: list[CopyEvent] = []
    pulled = pull(NAME, remote, store, moved.append)
    started = [event.descriptor for event in moved if isinstance(event, BlobStarted)]
    assert started == ([] if place == "manifest" else [descriptor])
    assert not pulled.up_to_date
    prove(store)
    assert store.resolve(NAME) == made.manifest.descriptor
    assert pull(NAME, remote, store).up_to_date


def test_what_only_looks_changed_is_left_alone(store: Store, remote: MemoryTarget, made: Model) -> None:
    """A touched file is proved and sealed again, not fetched."""
    path = store.layout.blob(made.manifest.layers[0].digest)
    os.utime(path)
    inode = path.stat().st_ino
    assert pull(NAME, remote, store).up_to_date
    assert path.stat().st_ino == inode


def test_an_expected_digest(made: Model) -> None:
    """What a name is may be demanded."""
    root = made.manifest.descriptor
    check_expected(NAME, root, None)
    check_expected(NAME, root, root.digest)
    with pytest.raises(DigestMismatch, match="not the expected"):
        check_expected(NAME, root, made.manifest.config.digest)


def test_a_pull_that_cannot_fit_begins_nothing(tmp_path: Path) -> None:
    """More than the disk has free is refused with both numbers, before a byte of a blob is asked for."""

    class Boastful(MemoryTarget):
        """A registry that must not be asked for the blob."""

        def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None):  # type: ignore[no-untyped-def]
            assert descriptor.size < 1 << 30
            return super().fetch(descriptor, offset, length)

        def exists(self, descriptor: Descriptor) -> bool:
            return descriptor.size > 1 << 30 or super().exists(descriptor)

    remote, store = Boastful(), Store.open(tmp_path / "store")
    config = push_bytes(remote, b"{}", "application/vnd.oci.empty.v1+json")
    huge = Descriptor(BLOB, Descriptor.of(b"huge", BLOB).digest, free_bytes(tmp_path) + (1 << 40))
    manifest = build_manifest(config, (huge,))
    remote.push(manifest.descriptor, content_of(manifest.raw))
    remote.tag(manifest.descriptor, NAME)
    with pytest.raises(DiskFull, match=r"TiB are missing.*free") as caught:
        pull(NAME, remote, store)
    assert caught.value.hint
    assert not list(store.layout.blobs.glob("*/*"))


def test_what_is_here_already_needs_no_room(store: Store, remote: MemoryTarget, made: Model) -> None:
    """Only what is really missing is counted, partial files included."""
    weights = made.manifest.layers[0]
    huge = Descriptor(BLOB, Descriptor.of(b"huge", BLOB).digest, free_bytes(store.path) // 2)
    store.ensure_room([weights, huge, huge])
    partial = store.layout.ingests / f"sha256-{huge.digest.hex}"
    store.layout.disk.make_directory(partial.parent)
    partial.write_bytes(bytes(1 << 20))
    larger = Descriptor(BLOB, huge.digest, free_bytes(store.path) + (1 << 19))
    store.ensure_room([larger])
    partial.unlink()
    with pytest.raises(DiskFull):
        store.ensure_room([Descriptor(BLOB, huge.digest, free_bytes(store.path) + (1 << 30))])


def test_content_that_is_wrong_names_its_source(tmp_path: Path, made: Model) -> None:
    """The error about wrong bytes says where they came from."""

    class Elsewhere(MemoryTarget):
        """A registry with a name, and wrong bytes."""

        origin = "https://registry.example"

        def push(self, descriptor: Descriptor, content: Content) -> None:
            super().push(descriptor, content)
            if not descriptor.is_manifest:
                self._content[descriptor.digest] = self._content[descriptor.digest][::-1]

    remote = Elsewhere()
    made.put(remote, NAME)
    with pytest.raises(DigestMismatch, match=r"from `https://registry\.example`"):
        pull(NAME, remote, Store.open(tmp_path / "store"))
