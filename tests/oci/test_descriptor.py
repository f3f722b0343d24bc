"""Descriptors: reading hostile ones, writing them back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.oci.descriptor import (
    ACCEPTED_TYPES,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from qwenctl.oci.digest import Digest

DIGEST = f"sha256:{'a' * 64}"
GOOD: dict[str, Any] = {"mediaType": "text/plain", "digest": DIGEST, "size": 3}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_a_descriptor_reads_as_it_is_written() -> None:
    """All fields that we know come back, in the specification's order."""
    document = {**GOOD, "annotations": {"a": "b"}, "artifactType": "x/y"}
    descriptor = Descriptor.parse({**document, "urls": ["ignored"]})
    assert descriptor == Descriptor("text/plain", Digest.parse(DIGEST), 3, {"a": "b"}, "x/y")
    assert list(descriptor.render().items()) == list(document.items())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mediaType": None}, "mediaType"),
        ({"mediaType": ""}, "mediaType"),
        ({"mediaType": 1}, "mediaType"),
        ({"size": None}, "size"),
        ({"size": -1}, "size"),
        ({"size": 1.0}, "size"),
        ({"size": True}, "size"),
        ({"size": "3"}, "size"),
        ({"size": 2**63}, "size"),
        ({"digest": None}, "digest"),
        ({"digest": 1}, "digest"),
        ({"digest": "sha256:short"}, "digest"),
        ({"digest": "sha256:" + "../" * 21 + "a"}, "digest"),
        ({"annotations": []}, "annotations"),
        ({"annotations": {"a": 1}}, "annotations"),
        ({"annotations": {"a": None}}, "annotations"),
        ({"artifactType": 1}, "artifactType"),
    ],
)
def test_malformed_descriptors_are_named(change: dict[str, Any], complaint: str) -> None:
    """Each wrong field raises Malformed that says which and where."""
    with pytest.raises(Malformed, match=complaint) as caught:
        Descriptor.parse({**GOOD, **change}, "manifest layers[3]")
    assert "manifest layers[3]" in caught.value.message


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_what_is_no_object_is_no_descriptor(document: object) -> None:
    """Other JSON values raise Malformed."""
    with pytest.raises(Malformed, match="not an object"):
        Descriptor.parse(document)


@given(JSON | st.fixed_dictionaries(dict.fromkeys([*GOOD, "annotations", "artifactType"], JSON)))
def test_any_json_parses_or_is_malformed(document: object) -> None:
    """No decoded JSON leads to another error."""
    try:
        descriptor = Descriptor.parse(document)
    except Malformed:
        return
    assert Descriptor.parse(descriptor.render()) == descriptor


@pytest.mark.parametrize("media_type", ACCEPTED_TYPES)
def test_manifests_are_told_from_blobs(media_type: str) -> None:
    """The four types of manifests and indexes, and no other, are served as manifests."""
    assert Descriptor.of(b"", media_type).is_manifest
    assert (media_type in MANIFEST_TYPES) != (media_type in INDEX_TYPES)
    assert not Descriptor.of(b"", OCI_EMPTY).is_manifest
    assert {OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST} < set(ACCEPTED_TYPES)


@pytest.mark.parametrize(
    ("media_type", "distributable"),
    [
        ("application/vnd.oci.image.layer.v1.tar", True),
        ("application/vnd.docker.ai.gguf.v3", True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", False),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False),
    ],
)
def test_some_layers_may_not_travel(media_type: str, distributable: bool) -> None:
    """Layers under a licence that forbids it are known by their media type (layer.md)."""
    assert Descriptor.of(b"", media_type).is_distributable is distributable


def test_annotating_gives_a_copy() -> None:
    """`annotate` replaces all annotations, leaves the original, and cannot be changed afterwards."""
    original = Descriptor.parse({**GOOD, "annotations": {"a": "b"}})
    changed = original.annotate(**{"org.example": "c"})
    assert dict(original.annotations) == {"a": "b"}
    assert dict(changed.annotations) == {"org.example": "c"}
    assert hash(original) == hash(changed) and original != changed
    with pytest.raises(TypeError):
        changed.annotations["x"] = "y"  # type: ignore[index] # that it cannot is the point
