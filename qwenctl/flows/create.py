"""Create: a model artifact from a GGUF file, in a store. Push and pull then treat it like any other."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from qwenctl.flows.header import open_file, read_file_header
from qwenctl.model.artifact import (
    CHAT_TEMPLATE_TYPE,
    CONFIG_V01,
    FILE_PATH,
    LICENSE_TYPE,
    WEIGHTS_TYPE,
    describe,
)
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Target, content_of


@dataclass(frozen=True, slots=True)
class Parts:
    """The files of a new model. Licences and the template are optional."""

    weights: Path
    licenses: Sequence[Path] = ()
    chat_template: Path | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    descriptor: Descriptor
    content: Content


def create(parts: Parts, target: Target, reference: Reference, created: datetime | None = None) -> Manifest:
    """Make a model of `parts` at `target`, under `reference`; the tag is the last write.

    The same files and the same `created` give the same digests everywhere; without it, the time when
    the weights were last changed is taken. Raises: FileMissing, AccessDenied; Malformed when the weights
    are no GGUF file; DiskFull.
    """
    shape = Shape.of(read_file_header(parts.weights)[0])
    weights = _layer(parts.weights, WEIGHTS_TYPE)
    extra = [_layer(path, LICENSE_TYPE) for path in parts.licenses]
    if parts.chat_template is not None:
        extra.append(_layer(parts.chat_template, CHAT_TEMPLATE_TYPE))
    layers = [weights, *extra]
    moment = created or datetime.fromtimestamp(int(parts.weights.stat().st_mtime), UTC)
    digests = tuple(layer.descriptor.digest for layer in extra)
    config = describe(shape, weights.descriptor.digest, moment, digests)
    config_descriptor = Descriptor.of(config, CONFIG_V01)
    manifest = build_manifest(config_descriptor, tuple(layer.descriptor for layer in layers))
    with target.protect([manifest.descriptor, *manifest.successors]):
        for layer in layers:
            target.push(layer.descriptor, layer.content)
        target.push(config_descriptor, content_of(config))
        target.push(manifest.descriptor, content_of(manifest.raw))
        target.tag(manifest.descriptor, reference)
    return manifest


def _layer(path: Path, media_type: str) -> _Layer:
    """A file as a layer: hashed once here; the target verifies what it then reads."""
    with open_file(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    descriptor = Descriptor(media_type, Digest("sha256", digest), size)
    return _Layer(descriptor.annotate(**{FILE_PATH: path.name}), partial(open_file, path))
