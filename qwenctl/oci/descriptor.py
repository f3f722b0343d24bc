"""Descriptors: media type, digest and size of some content, and the media types we meet.

Source: OCI image-spec v1.1, descriptor.md and media-types.md; Docker's two manifest types are the ones
old registries still answer with.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

from qwenctl.errors import InvalidDigest, Malformed
from qwenctl.oci.digest import Digest

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
ACCEPTED_TYPES: Final = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST)

REF_NAME: Final = "org.opencontainers.image.ref.name"
"""Annotation of an index entry that holds its tag (image-spec, image-layout.md, "index.json")."""

_NONDISTRIBUTABLE: Final = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)

_SIZE_LIMIT: Final = 2**63 - 1  # bytes; the specification's `int64`
_NO_ANNOTATIONS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What some content is (`media_type`), its name (`digest`) and its length in bytes (`size`)."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=lambda: _NO_ANNOTATIONS, hash=False)
    artifact_type: str | None = None

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Self:
        """The descriptor of `content`, with a sha256 digest."""
        return cls(media_type, Digest.of(content), len(content))

    @classmethod
    def parse(cls, document: object, where: str = "descriptor") -> Self:
        """The descriptor in a decoded JSON object. Raises: Malformed, naming `where`."""
        if not isinstance(document, dict):
            raise Malformed(f"{where} is not an object")
        media_type, size = document.get("mediaType"), document.get("size")
        if not isinstance(media_type, str) or not media_type:
            raise Malformed(f"{where} has no `mediaType`")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _SIZE_LIMIT:
            raise Malformed(f"{where} has no valid `size`")
        artifact_type = document.get("artifactType")
        if artifact_type is not None and not isinstance(artifact_type, str):
            raise Malformed(f"{where} has an `artifactType` that is not text")
        return cls(
            media_type,
            _parse_digest(document.get("digest"), where),
            size,
            parse_annotations(document.get("annotations"), where),
            artifact_type,
        )

    @property
    def is_manifest(self) -> bool:
        """Whether the content is a manifest or an index: what `/manifests/` serves, not `/blobs/`."""
        return self.media_type in MANIFEST_TYPES or self.media_type in INDEX_TYPES

    @property
    def is_distributable(self) -> bool:
        """Whether a manifest needs this content beside it: a layer that may not be passed on may be absent.

        Source: image-spec v1.1, layer.md, "Non-Distributable Layers".
        """
        return not self.media_type.startswith(_NONDISTRIBUTABLE)

    def render(self) -> dict[str, Any]:
        """The JSON object of this descriptor, in the specification's order of fields."""
        document: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        if self.artifact_type is not None:
            document["artifactType"] = self.artifact_type
        return document

    def annotate(self, **annotations: str) -> Self:
        """A copy with these annotations alone; use a `**{key: value}` mapping for dotted keys."""
        return replace(self, annotations=MappingProxyType(dict(annotations)))


def parse_annotations(document: object, where: str) -> Mapping[str, str]:
    """The annotations in a decoded JSON value, `None` being none. Raises: Malformed."""
    if document is None:
        return _NO_ANNOTATIONS
    if not isinstance(document, dict) or not all(isinstance(v, str) for v in document.values()):
        raise Malformed(f"{where} has `annotations` that are not text")
    return MappingProxyType(dict(document))


def _parse_digest(value: object, where: str) -> Digest:
    if not isinstance(value, str):
        raise Malformed(f"{where} has no `digest`")
    try:
        return Digest.parse(value)
    except InvalidDigest as error:
        raise Malformed(f"{where}: {error.message}", hint=error.hint) from error
