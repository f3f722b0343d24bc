"""Manifests and indexes: bytes ⇄ values, and the content that each refers to.

A manifest's identity is the digest of its bytes, so it is never re-serialised on the way through:
`parse_document` keeps the bytes that it was given.

Source: OCI image-spec v1.1, manifest.md and image-index.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qwenctl.errors import Malformed
from qwenctl.oci.descriptor import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    parse_annotations,
)

MANIFEST_LIMIT: Final = 16 * 1024 * 1024
"""Bytes. The distribution-spec asks for at least 4 MiB; one read of this size is still harmless."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest: one config and its layers. `raw` is the content that the digest names."""

    raw: bytes
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None
    subject: Descriptor | None

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest itself."""
        return Descriptor.of(self.raw, self.media_type)

    @property
    def successors(self) -> tuple[Descriptor, ...]:
        """What must be present before the manifest may be: the config and the layers, once each."""
        return _once((self.config, *self.layers))

    @property
    def content_size(self) -> int:
        """Bytes of config and layers together, each content counted once."""
        return sum(item.size for item in self.successors)


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: a list of manifests. `raw` is the content that the digest names."""

    raw: bytes
    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None
    subject: Descriptor | None

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the index itself."""
        return Descriptor.of(self.raw, self.media_type)

    @property
    def successors(self) -> tuple[Descriptor, ...]:
        """The manifests of the index, once each."""
        return _once(self.manifests)


Document = Manifest | Index


def parse_document(raw: bytes, media_type: str | None = None) -> Document:
    """The manifest or index in `raw`.

    `media_type` is what the transport said it is; the document's own `mediaType` must agree with it
    (distribution-spec v1.1, "Pulling manifests"). Without either, the fields decide.

    Raises: Malformed.
    """
    document = _decode(raw)
    kind = _kind(document, media_type)
    annotations = parse_annotations(document.get("annotations"), "manifest")
    subject = document.get("subject")
    subject = None if subject is None else Descriptor.parse(subject, "manifest subject")
    artifact_type = document.get("artifactType")
    if artifact_type is not None and not isinstance(artifact_type, str):
        raise Malformed("manifest has an `artifactType` that is not text")
    if kind in INDEX_TYPES:
        manifests = _descriptors(document, "manifests")
        return Index(raw, kind, manifests, annotations, artifact_type, subject)
    config = Descriptor.parse(document.get("config"), "manifest config")
    layers = _descriptors(document, "layers")
    return Manifest(raw, kind, config, layers, annotations, artifact_type, subject)


def parse_manifest(raw: bytes, media_type: str | None = None) -> Manifest:
    """The manifest in `raw`. Raises: Malformed, also when it is an index."""
    document = parse_document(raw, media_type)
    if isinstance(document, Index):
        raise Malformed("expected a manifest, found an index of several")
    return document


def build_manifest(
    config: Descriptor,
    layers: tuple[Descriptor, ...],
    *,
    annotations: Mapping[str, str] | None = None,
    artifact_type: str | None = None,
    subject: Descriptor | None = None,
) -> Manifest:
    """A new OCI manifest. The same arguments give the same bytes, hence the same digest.

    Raises: Malformed for text with lone surrogates.
    """
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    document["config"] = config.render()
    document["layers"] = [layer.render() for layer in layers]
    if subject is not None:
        document["subject"] = subject.render()
    if annotations:
        document["annotations"] = dict(annotations)
    return parse_manifest(_encode(document), OCI_MANIFEST)


def build_index(manifests: tuple[Descriptor, ...], *, annotations: Mapping[str, str] | None = None) -> Index:
    """A new OCI index. The same arguments give the same bytes, hence the same digest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [manifest.render() for manifest in manifests],
    }
    if annotations:
        document["annotations"] = dict(annotations)
    index = parse_document(_encode(document), OCI_INDEX)
    assert isinstance(index, Index)
    return index


def _once(descriptors: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    return tuple({item.digest: item for item in descriptors}.values())


def _encode(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # from an argument or a file name that is no UTF-8
        raise Malformed("manifest would hold text that is not Unicode") from error


def _decode(raw: bytes) -> dict[str, Any]:
    if len(raw) > MANIFEST_LIMIT:
        raise Malformed(f"manifest of {len(raw)} bytes is over the limit of {MANIFEST_LIMIT}")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Malformed("manifest is not JSON") from error
    if not isinstance(document, dict):
        raise Malformed("manifest is not a JSON object")
    version = document.get("schemaVersion")
    if version != 2:
        raise Malformed(f"manifest has schema version {str(version)[:50]}, not 2")
    return document


def _kind(document: dict[str, Any], media_type: str | None) -> str:
    declared = document.get("mediaType")
    if declared is not None and not isinstance(declared, str):
        raise Malformed("manifest has a `mediaType` that is not text")
    transport = media_type.partition(";")[0].strip() if media_type else None
    if declared and transport and declared != transport:
        raise Malformed(f"manifest says it is `{declared[:200]}` but was served as `{transport[:200]}`")
    if "manifests" in document and "layers" in document:
        raise Malformed("manifest has both `manifests` and `layers`")
    kind = declared or transport or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    if kind not in MANIFEST_TYPES and kind not in INDEX_TYPES:
        raise Malformed(f"`{kind[:200]}` is not a kind of manifest that we know")
    return kind


def _descriptors(document: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    items = document.get(key)
    if not isinstance(items, list):
        raise Malformed(f"manifest has no list of `{key}`")
    return tuple(Descriptor.parse(item, f"manifest {key}[{n}]") for n, item in enumerate(items))
