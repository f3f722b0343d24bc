"""What is transferred: artifacts of three shapes with contents that cannot be compressed, in a store."""

import hashlib
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

from qwenctl.model.artifact import CONFIG_V01, FILE_PATH, WEIGHTS_TYPE
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store

_MIB = 1 << 20
_QUICK = 32  # by how much a trial run is smaller


@dataclass(frozen=True, slots=True)
class Shape:
    """How many blobs of which size."""

    name: str
    count: int
    blob_bytes: int

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs."""
        return self.count * self.blob_bytes

    @property
    def title(self) -> str:
        """For people."""
        mebibytes = self.blob_bytes // _MIB
        size = f"{mebibytes // 1024} GiB" if mebibytes >= 1024 else f"{mebibytes} MiB"
        return f"{self.count} x {size}"

    def quick(self) -> "Shape":
        """A shape that shows whether all works, and measures nothing."""
        if self.blob_bytes == _MIB:
            return replace(self, count=max(1, self.count // _QUICK))
        return replace(self, blob_bytes=self.blob_bytes // _QUICK)


SHAPES = (Shape("large", 1, 2048 * _MIB), Shape("small", 200, _MIB), Shape("shards", 8, 256 * _MIB))


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact in a store."""

    shape: Shape
    manifest: Manifest
    store: Store

    @property
    def repository(self) -> str:
        """Its repository, the same on every registry."""
        return f"bench/{self.shape.name}"

    def tag_at(self, registry: str) -> str:
        """Give it its name on `registry` in the store; the name."""
        name = f"{registry}/{self.repository}:v1"
        self.store.tag(self.manifest.descriptor, Reference.parse(name))
        return name

    def link_directory(self, directory: Path) -> Path:
        """The artifact in skopeo's `dir:` form, of hard links to the store's blobs.

        Source: containers/image `directory/directory_transport.go` and `directory_dest.go`.
        """
        directory.mkdir()
        (directory / "version").write_text("Directory Transport Version: 1.1\n")
        (directory / "manifest.json").write_bytes(self.manifest.raw)
        for blob in self.manifest.successors:
            (directory / blob.digest.hex).hardlink_to(self.store.blob_path(blob))
        return directory

    def check_files(self, directory: Path, *, thorough: bool) -> None:
        """Every layer is in `directory` under its digest, by size; thoroughly: by its bytes.

        Raises: AssertionError.
        """
        for layer in self.manifest.layers:
            path = directory / layer.digest.hex
            assert path.stat().st_size == layer.size, f"{path} is not whole"
            if thorough:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                assert found == layer.digest.hex, f"{path} has other bytes"


def make_artifact(shape: Shape, store: Store) -> Artifact:
    """A new artifact in `store`; the same shape gives the same bytes."""
    chance = random.Random(shape.name)
    layers = tuple(_make_layer(number, shape.blob_bytes, store, chance) for number in range(shape.count))
    rootfs = {"type": "rootfs", "diff_ids": [str(layer.digest) for layer in layers]}
    config = json.dumps({"config": {"format": "gguf"}, "descriptor": {}, "rootfs": rootfs}).encode()
    descriptor = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(descriptor, layers)
    store.push(descriptor, content_of(config))
    store.push(manifest.descriptor, content_of(manifest.raw))
    return Artifact(shape, manifest, store)


def _make_layer(number: int, size_bytes: int, store: Store, chance: random.Random) -> Descriptor:
    path = store.path / "new-layer"
    verifier = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for _ in range(size_bytes // _MIB):
            piece = chance.randbytes(_MIB)
            verifier.update(piece)
            file.write(piece)
    descriptor = Descriptor(WEIGHTS_TYPE, Digest("sha256", verifier.hexdigest()), size_bytes)
    descriptor = descriptor.annotate(**{FILE_PATH: f"part-{number:05}.gguf"})
    store.adopt(descriptor, path)
    return descriptor
