"""Small valid things to test with: models, manifests, settings. The same bytes every time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from qwenctl.model.artifact import CONFIG_V01, LICENSE_TYPE, WEIGHTS_TYPE, describe
from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.manifest import Index, Manifest, build_index, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Target, content_of
from qwenctl.settings import Settings
from tests.model.gguf_builders import gguf_file

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True)
class Model:
    """A model in memory: its contents and the manifest over them."""

    weights: bytes
    license: bytes
    config: bytes
    manifest: Manifest

    @property
    def contents(self) -> dict[Descriptor, bytes]:
        """Everything below the manifest."""
        weights, license_ = self.manifest.layers
        return {self.manifest.config: self.config, weights: self.weights, license_: self.license}

    def put(self, target: Target, reference: Reference | None = None) -> Descriptor:
        """Push all of it, and tag it when a reference is given."""
        for descriptor, raw in self.contents.items():
            target.push(descriptor, content_of(raw))
        root = self.manifest.descriptor
        target.push(root, content_of(self.manifest.raw))
        if reference is not None:
            target.tag(root, reference)
        return root


def model(seed: int = 0, padding: int = 0) -> Model:
    """A tiny model; another seed is other weights under the same licence, `padding` makes them larger."""
    from io import BytesIO

    weights = gguf_file() + bytes([seed % 256]) * (16 + padding)
    shape = Shape.of(read_header(BytesIO(weights)))
    weights_descriptor = Descriptor.of(weights, WEIGHTS_TYPE)
    license_ = b"do what you like\n"
    license_descriptor = Descriptor.of(license_, LICENSE_TYPE)
    config = describe(shape, weights_descriptor.digest, CREATED, (license_descriptor.digest,))
    manifest = build_manifest(Descriptor.of(config, CONFIG_V01), (weights_descriptor, license_descriptor))
    return Model(weights, license_, config, manifest)


def index_of(*models: Model) -> Index:
    """An index over some models."""
    return build_index(tuple(item.manifest.descriptor for item in models))


def settings_in(directory: Path) -> Settings:
    """Settings whose every path lies under `directory`."""
    return Settings(directory / "store", directory / "runtime", directory / "state")
