"""Checking blobs, and moving damaged ones out of service."""

import fcntl
import json
import mmap
import os
from pathlib import Path

import pytest

from qwenctl.errors import AccessDenied, DigestMismatch, Interrupted
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.target import content_of
from qwenctl.store.check import (
    State,
    check_blob,
    examine,
    list_blobs,
    readable_entries,
    set_aside,
    settle,
    suspects,
)
from qwenctl.store.leftovers import Kind, holding, list_leftovers
from qwenctl.store.store import Store
from tests.contracts.target import BLOB, push_bytes, some_bytes
from tests.store.store_builders import REFERENCE, damage, tagged

RAW = some_bytes(size=9 << 20)  # several reads, and not a whole number of them


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def silent(count: int) -> None:
    """Hears nothing."""


def state_of(store: Store, descriptor: Descriptor) -> State:
    """What the check says of one blob."""
    return check_blob(store.layout, descriptor.digest, (descriptor.size,), silent).state


def test_what_is_whole_is_ok(store: Store) -> None:
    """Content of every size and of either algorithm is read once, to its end, and changed in nothing."""
    for raw in (b"", b"x", RAW):
        for algorithm in ("sha256", "sha512"):
            digest = Digest.of(raw, "sha512" if algorithm == "sha512" else "sha256")
            store.push(Descriptor(BLOB, digest, len(raw)), content_of(raw))
            read: list[int] = []
            before = store.layout.blob(digest).stat()
            found = check_blob(store.layout, digest, None, read.append)
            assert (found.state, found.size_bytes, sum(read)) == (State.OK, len(raw), len(raw))
            assert store.layout.blob(digest).stat().st_mtime_ns == before.st_mtime_ns


def test_each_damage_has_its_name(store: Store) -> None:
    """Missing, too short, empty, other bytes; what has the wrong size is not read."""
    descriptor = push_bytes(store, RAW)
    path = store.layout.blob(descriptor.digest)
    assert check_blob(store.layout, descriptor.digest, (1, len(RAW)), silent).state is State.OK
    damage(path)
    found = check_blob(store.layout, descriptor.digest, (len(RAW),), silent)
    assert found.state is State.WRONG_DIGEST
    assert Digest.of(path.read_bytes()).hex in found.detail
    for size in (len(RAW) - 1, 0):
        os.truncate(path, size)
        read: list[int] = []
        found = check_blob(store.layout, descriptor.digest, (len(RAW),), read.append)
        assert (found.state, found.size_bytes, read) == (State.WRONG_SIZE, size, [])
    path.unlink()
    assert state_of(store, descriptor) is State.MISSING


def test_what_is_no_file_is_unreadable_and_does_not_hang(store: Store) -> None:
    """A pipe or a directory under the name of a blob is told; neither is waited for, nor moved."""
    descriptor = push_bytes(store, b"x")
    path = store.layout.blob(descriptor.digest)
    for make in (os.mkfifo, os.mkdir):
        path.unlink()
        make(path)
        found, moved = examine(store.layout, descriptor.digest, (1,), silent)
        assert (found.state, moved) == (State.UNREADABLE, None)
        if path.is_dir():
            path.rmdir()
            path.touch()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_a_disk_that_fails(store: Store) -> None:
    """What the disk cannot read is unreadable, and out of service like other damage."""
    digest = Digest.of(b"unreadable")
    path = store.layout.blob(digest)
    path.symlink_to("/proc/self/mem")  # its first page cannot be read: EIO
    found, moved = examine(store.layout, digest, None, silent)
    assert (found.state, path.is_symlink()) == (State.UNREADABLE, False)
    assert "input/output error" in found.detail
    assert moved is not None and moved.is_symlink()


def test_damage_is_moved_aside_and_stays_as_it_was(store: Store) -> None:
    """The blob is absent for everybody, its bytes are kept, and who has mapped them reads on."""
    descriptor = push_bytes(store, RAW)
    path = store.layout.blob(descriptor.digest)
    damage(path)
    bad = path.read_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        _, moved = examine(store.layout, descriptor.digest, (len(RAW),), silent)
        assert moved is not None
        assert not store.exists(descriptor)
        push_bytes(store, RAW)
        assert mapped[:] == bad
    assert moved.read_bytes() == bad
    assert path.read_bytes() == RAW
    (left,) = list_leftovers(store.layout)
    assert (left.kind, left.digest) == (Kind.DAMAGED, descriptor.digest)


@pytest.mark.parametrize("kind", [Interrupted, BrokenPipeError, DigestMismatch, AccessDenied])
def test_a_check_that_is_broken_off_accuses_nobody(store: Store, kind: type[Exception]) -> None:
    """Whatever the listener raises comes through as it is, and the blob stays where it was."""
    descriptor = push_bytes(store, RAW)

    def stop(count: int) -> None:
        raise kind("stop")

    with pytest.raises(kind, match="stop"):
        examine(store.layout, descriptor.digest, (len(RAW),), stop)
    assert state_of(store, descriptor) is State.OK


def test_a_replaced_file_is_not_moved(store: Store) -> None:
    """When another process has put the right content there meanwhile, that stays."""
    descriptor = push_bytes(store, b"content")
    path = store.layout.blob(descriptor.digest)
    damage(path)
    found = check_blob(store.layout, descriptor.digest, (7,), silent)
    path.unlink()
    assert set_aside(store.layout, found) is None
    push_bytes(store, b"content")
    assert set_aside(store.layout, found) is None
    assert state_of(store, descriptor) is State.OK
    assert not list(store.layout.ingests.iterdir())


def test_a_blob_that_is_being_downloaded_is_left_alone(store: Store) -> None:
    """Who holds the partial file will replace the blob; we neither wait nor interfere."""
    descriptor = push_bytes(store, b"content")
    path = store.layout.blob(descriptor.digest)
    damage(path)
    partial = store.layout.ingests / f"sha256-{descriptor.digest.hex}"
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        found, moved = examine(store.layout, descriptor.digest, (7,), silent)
        assert (found.state, moved, path.exists()) == (State.WRONG_DIGEST, None, True)
        with holding(store.layout, descriptor.digest) as held:
            assert held is None
        assert partial.exists()


def test_a_store_that_is_only_read(store: Store) -> None:
    """Damage is told, and left where it is."""
    descriptor = push_bytes(store, b"content")
    damage(store.layout.blob(descriptor.digest))
    (store.path / ".lock").unlink()
    (store.path / ".lock").mkdir()  # cannot be opened, as in a store on a read-only disk
    found, moved = examine(store.layout, descriptor.digest, (7,), silent)
    assert (found.state, moved) == (State.WRONG_DIGEST, None)
    assert store.layout.blob(descriptor.digest).exists()


def test_a_partial_download_survives_the_check(store: Store) -> None:
    """Moving a blob aside leaves what was downloaded of it before, for the repair to go on from."""
    descriptor = push_bytes(store, b"content")
    damage(store.layout.blob(descriptor.digest))
    partial = store.layout.ingests / f"sha256-{descriptor.digest.hex}"
    partial.write_bytes(b"con")
    assert examine(store.layout, descriptor.digest, (7,), silent)[1] is not None
    assert partial.read_bytes() == b"con"


def test_only_what_was_unsealed_is_suspect(store: Store) -> None:
    """A pull looks at each file; what may have been written to is read, and sealed when it is whole."""
    sealed, opened, bad = (push_bytes(store, raw) for raw in (b"sealed", b"opened", b"broken"))
    for descriptor in (opened, bad):
        store.layout.blob(descriptor.digest).chmod(0o644)
    damage(store.layout.blob(bad.digest))
    everything = [sealed, opened, bad, Descriptor.of(b"absent", BLOB), opened]
    assert suspects(store.layout, everything) == [opened, bad]
    assert [(found.digest, found.state) for found in settle(store.layout, everything)] == [
        (bad.digest, State.WRONG_DIGEST)
    ]
    assert suspects(store.layout, everything) == []
    assert (store.exists(opened), store.exists(bad)) == (True, False)


def test_a_file_with_another_name_is_not_sealed(store: Store, tmp_path: Path) -> None:
    """A hard link may be another program's own file: its rights are not ours to change."""
    descriptor = push_bytes(store, b"content")
    path = store.layout.blob(descriptor.digest)
    path.chmod(0o644)
    (tmp_path / "theirs").hardlink_to(path)
    assert settle(store.layout, [descriptor]) == []
    assert path.stat().st_mode & 0o777 == 0o644


def test_strays_are_told_apart(store: Store) -> None:
    """Files among the blobs whose names are no digests that we can check."""
    descriptor = push_bytes(store, b"content")
    strays = [
        store.layout.blobs / "blake3" / "00",
        store.layout.blobs / "note",
        store.layout.blobs / "sha256" / "x",
    ]
    for path in strays:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list_blobs(store.layout) == ([descriptor.digest], strays)


def test_one_broken_entry_does_not_hide_the_others(store: Store) -> None:
    """Of a damaged index what can be read is read, and each fault is told."""
    tagged(store)
    index = store.path / "index.json"
    document = json.loads(index.read_text())
    document["manifests"] += [{"mediaType": "x"}, 7]
    index.write_text(json.dumps(document))
    entries, problems = readable_entries(store.layout)
    assert [entry.reference for entry in entries] == [REFERENCE]
    assert problems == ["manifests[1] has no valid `size`", "manifests[2] is not an object"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": 1}'])
def test_an_index_that_is_none(store: Store, text: str) -> None:
    """No entries, and one fault that names the file."""
    (store.path / "index.json").write_text(text)
    entries, (problem,) = readable_entries(store.layout)
    assert entries == ()
    assert "index.json" in problem
