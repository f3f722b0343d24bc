"""Stores and small artifacts for the tests of the store."""

from pathlib import Path

from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest
from qwenctl.oci.reference import Reference
from qwenctl.store.reach import reach
from qwenctl.store.store import Store
from tests.contracts.target import push_artifact

REFERENCE = Reference.parse("qwen2.5:7B-Q4_K_M")


def tagged(store: Store, seed: int = 0, reference: Reference = REFERENCE) -> Manifest:
    """Push an artifact and give it a name."""
    manifest = push_artifact(store, seed)
    store.tag(manifest.descriptor, reference)
    return manifest


def blobs(store: Store) -> dict[Path, bytes]:
    """All visible blobs."""
    return {path: path.read_bytes() for path in store.layout.blobs.glob("*/*")}


def prove(store: Store) -> None:
    """Every visible blob is what its name says, and every entry of the index is whole."""
    for path, raw in blobs(store).items():
        digest = Digest.parse(f"{path.parent.name}:{path.name}")
        assert Digest.of(raw, digest.algorithm) == digest, path
    for entry in store.entries():
        found = reach(store, [entry.descriptor])
        assert not found.unreadable
        assert all(store.exists(item) for item in found.content), entry


def damage(path: Path, position: int = 0) -> None:
    """Change one byte of a blob, as a bad disk or a careless program does."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))
