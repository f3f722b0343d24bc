"""Models in a store whose weights are a hole: real shapes, gigabytes by their size, kilobytes on the disk.

The digest of such weights is made up: what reads a header only never asks for it.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

from qwenctl.model.artifact import CONFIG_V01, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store
from tests.shape_models import Vocabulary, write_shape_model

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def put_sparse_model(
    store: Store, reference: Reference, shape: str, quantization: str, vocabulary: Vocabulary = "dummy"
) -> Descriptor:
    """A shape model in `store` under `reference`; its manifest."""
    name = hashlib.sha256(f"{shape} {quantization}".encode()).hexdigest()
    path = store.path / "blobs" / "sha256" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_shape_model(path, shape, quantization, vocabulary=vocabulary)
    weights = Descriptor(WEIGHTS_TYPE, Digest("sha256", name), path.stat().st_size)
    with path.open("rb") as file:
        config = describe(Shape.of(read_header(file)), weights.digest, CREATED)
    config_descriptor = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(config_descriptor, (weights,))
    store.push(config_descriptor, content_of(config))
    store.push(manifest.descriptor, content_of(manifest.raw))
    store.tag(manifest.descriptor, reference)
    return manifest.descriptor


def sparse_store(path: Path, *models: tuple[str, str, str]) -> Store:
    """A store with models given as reference, shape and quantization."""
    store = Store.open(path)
    for name, shape, quantization in models:
        put_sparse_model(store, Reference.parse(name), shape, quantization)
    return store
