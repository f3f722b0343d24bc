"""Content as the conformance programs generate it: blobs, manifests over them, tags, referrers."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from qwenctl.oci.descriptor import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from qwenctl.oci.digest import Algorithm, Digest

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
EXAMPLE = "application/vnd.example.conformance.v1"

Json = dict[str, Any]


@dataclass
class Content:
    """One data set. Manifests are in the order in which they must be pushed."""

    algorithm: Algorithm = "sha256"
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, bytes] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    referrers: dict[str, list[Json]] = field(default_factory=dict)

    def blob(self, raw: bytes, media_type: str, **more: object) -> Json:
        """Adds a blob; its descriptor."""
        digest = Digest.of(raw, self.algorithm)
        self.blobs[digest] = raw
        return {"mediaType": media_type, "digest": str(digest), "size": len(raw), **more}

    def inline(self, raw: bytes, media_type: str) -> Json:
        """Adds a blob that its descriptor repeats in `data`."""
        return self.blob(raw, media_type, data=base64.b64encode(raw).decode())

    def image(self, seed: str = "", tag: str = "", layers: list[Json] | None = None, **more: Any) -> Json:
        """Adds an image manifest with a config and two layers of its own; its descriptor."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.blob(json.dumps({"author": seed}).encode(), CONFIG),
            "layers": [self.blob(f"{seed}{n}".encode(), LAYER) for n in range(2)]
            if layers is None
            else layers,
        }
        return self.manifest(document | more, tag)

    def artifact(self, seed: str = "", tag: str = "", kind: str = EXAMPLE, **more: Any) -> Json:
        """Adds an artifact: the empty config, one layer; its descriptor."""
        layer = self.blob(seed.encode() or b"{}", kind if seed else OCI_EMPTY)
        empty = self.blob(b"{}", OCI_EMPTY)
        return self.image(tag=tag, config=empty, layers=[layer], artifactType=kind, **more)

    def index(self, *manifests: Json, tag: str = "", **more: Any) -> Json:
        """Adds an index; its descriptor."""
        document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(manifests)}
        return self.manifest(document | more, tag)

    def manifest(self, document: Json, tag: str) -> Json:
        """Adds a manifest from its JSON object; its descriptor."""
        raw = json.dumps(document, indent=1).encode()
        digest = Digest.of(raw, self.algorithm)
        self.manifests[digest] = raw
        if tag:
            self.tags[tag] = digest
        descriptor = {"mediaType": document["mediaType"], "digest": str(digest), "size": len(raw)}
        if "subject" in document:
            kind = document.get("artifactType") or document.get("config", {}).get("mediaType")
            shown = {"artifactType": kind, "annotations": document.get("annotations")}
            row = descriptor | {key: value for key, value in shown.items() if value}
            self.referrers.setdefault(document["subject"]["digest"], []).append(row)
        return descriptor


def _image() -> Content:
    content = Content()
    content.image("image", "image")
    return content


def _large() -> Content:
    content = Content()
    content.image("large", "large", annotations={f"large-{n}": "A" * 10_000 for n in range(390)})
    return content


def _index() -> Content:
    content = Content()
    platforms = [{"os": "linux", "architecture": name} for name in ("amd64", "arm64")]
    content.index(
        *(content.image(f"index{n}") | {"platform": platform} for n, platform in enumerate(platforms)),
        tag="index",
    )
    return content


def _nested_index() -> Content:
    content = Content()
    inner = [content.index(content.image(f"a{n}"), content.image(f"b{n}")) for n in range(2)]
    content.index(*inner, tag="index-of-index")
    return content


def _empty_index() -> Content:
    content = Content()
    content.index(tag="empty-index")
    return content


def _artifact() -> Content:
    content = Content()
    content.artifact("artifact", "artifact")
    return content


def _artifact_without_layers() -> Content:
    content = Content()
    content.artifact(tag="artifact-without-layers")
    return content


def _artifact_index() -> Content:
    content = Content()
    parts = [content.artifact(f"part {n}") for n in range(2)]
    content.index(*parts, tag="artifact-index", artifactType=EXAMPLE)
    return content


def _artifacts_with_subject() -> Content:
    content = Content()
    subject = content.image("subject", "image")
    content.image("plain", subject=subject)
    for n in range(2):
        content.artifact(
            f"layer {n}",
            f"tagged-{n}",
            f"{EXAMPLE}.{n}",
            subject=subject,
            annotations={"hello": f"there {n}"},
        )
    return content


def _index_with_subject() -> Content:
    content = Content()
    subject = content.index(content.image("subject"), tag="index")
    part = content.artifact("part", subject=subject)
    content.index(part, tag="tagged", subject=subject, artifactType=EXAMPLE, annotations={"hello": "there"})
    content.index(part, subject=subject)
    return content


def _missing_subject() -> Content:
    content = Content()
    subject = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"missing")), "size": 123}
    content.artifact("artifact", "tagged", subject=subject, annotations={"hello": "there"})
    return content


def _data_field() -> Content:
    content = Content()
    content.image(
        "data", "data-field", config=content.inline(b"{}", CONFIG), layers=[content.inline(b"x", LAYER)]
    )
    return content


def _nondistributable() -> Content:
    content = Content()
    absent = [
        {
            "mediaType": kind,
            "digest": str(Digest.of(kind.encode())),
            "size": 12345,
            "urls": ["https://store.example.com/layer"],
        }
        for kind in (NONDISTRIBUTABLE, f"{NONDISTRIBUTABLE}+gzip")
    ]
    content.image("some", "nondistributable", [*absent, content.blob(b"here", LAYER)])
    return content


def _custom_fields() -> Content:
    content = Content()
    custom: dict[str, Any] = {"org.example": [1, {}]}
    content.index(content.image("one", **custom), tag="custom-fields", other={"a": None})
    return content


def _no_layers() -> Content:
    content = Content()
    content.image("none", "no-layers", [])
    return content


def _sha512() -> Content:
    content = Content("sha512")
    content.index(content.image("a"), content.image("b"))
    return content


def _tag_parameters(algorithm: Algorithm) -> Content:
    content = Content(algorithm)
    content.index(content.image("a", "tag-0"), content.image("b", "tag-1"), tag="tag-2")
    content.tags["tag-3"] = content.tags["tag-2"]
    return content


DATA_SETS = {
    "image": _image(),
    "large manifest": _large(),
    "index": _index(),
    "nested index": _nested_index(),
    "empty index": _empty_index(),
    "artifact": _artifact(),
    "artifact without layers": _artifact_without_layers(),
    "artifact index": _artifact_index(),
    "artifacts with subject": _artifacts_with_subject(),
    "index with subject": _index_with_subject(),
    "missing subject": _missing_subject(),
    "data field": _data_field(),
    "nondistributable layers": _nondistributable(),
    "custom fields": _custom_fields(),
    "no layers": _no_layers(),
    "sha512": _sha512(),
}
"""What the programs push by digest and then by tag."""

TAGGED_BY_PARAMETER = {algorithm: _tag_parameters(algorithm) for algorithm in ("sha256", "sha512")}
"""What they push by digest with `?tag=`."""
