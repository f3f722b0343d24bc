"""Manifests and indexes: hostile documents, what they refer to, building."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.oci.descriptor import (
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
)
from qwenctl.oci.manifest import (
    MANIFEST_LIMIT,
    Index,
    Manifest,
    build_index,
    build_manifest,
    parse_document,
    parse_manifest,
)

CONFIG = Descriptor.of(b"{}", OCI_EMPTY)
LAYER = Descriptor.of(b"layer", "text/plain")
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": OCI_MANIFEST,
    "config": CONFIG.render(),
    "layers": [LAYER.render()],
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def encoded(document: object) -> bytes:
    """The document as JSON."""
    return json.dumps(document).encode()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The document less one field."""
    return {name: value for name, value in document.items() if name != key}


def test_a_manifest_has_its_parts() -> None:
    """Config, layers, annotations, kind and subject come out; the bytes stay as they were."""
    raw = encoded(
        {
            **MANIFEST,
            "annotations": {"a": "b"},
            "artifactType": "x/y",
            "subject": LAYER.render(),
            "unknown": [1],
        }
    )
    manifest = parse_manifest(raw, f"{OCI_MANIFEST}; charset=utf-8")
    assert manifest == Manifest(raw, OCI_MANIFEST, CONFIG, (LAYER,), {"a": "b"}, "x/y", LAYER)
    assert manifest.descriptor == Descriptor.of(raw, OCI_MANIFEST)


def test_successors_are_what_must_come_first() -> None:
    """Config and layers, once each; a subject is no successor (manifest.md)."""
    manifest = build_manifest(CONFIG, (LAYER, CONFIG, LAYER), subject=Descriptor.of(b"s", OCI_MANIFEST))
    assert manifest.successors == (CONFIG, LAYER)
    assert manifest.content_size == CONFIG.size + LAYER.size
    index = build_index((LAYER, LAYER))
    assert index.successors == (LAYER,)
    assert index.manifests == (LAYER, LAYER)
    assert index.descriptor == Descriptor.of(index.raw, OCI_INDEX)


@pytest.mark.parametrize(
    ("document", "served_as", "kind"),
    [
        (MANIFEST, None, OCI_MANIFEST),
        (MANIFEST, "", OCI_MANIFEST),
        (MANIFEST, OCI_MANIFEST, OCI_MANIFEST),
        (without(MANIFEST, "mediaType"), None, OCI_MANIFEST),
        (without(MANIFEST, "mediaType"), DOCKER_MANIFEST, DOCKER_MANIFEST),
        ({**MANIFEST, "mediaType": DOCKER_MANIFEST}, None, DOCKER_MANIFEST),
        ({**MANIFEST, "layers": []}, None, OCI_MANIFEST),
        (INDEX, None, OCI_INDEX),
        (INDEX, OCI_INDEX, OCI_INDEX),
        (without(INDEX, "mediaType"), None, OCI_INDEX),
        (without(INDEX, "mediaType"), DOCKER_MANIFEST_LIST, DOCKER_MANIFEST_LIST),
        ({**INDEX, "manifests": [LAYER.render()]}, None, OCI_INDEX),
    ],
)
def test_the_kind_of_a_document(document: dict[str, Any], served_as: str | None, kind: str) -> None:
    """The document's own media type, else the transport's, else its fields say what it is."""
    assert parse_document(encoded(document), served_as).media_type == kind


@pytest.mark.parametrize(
    ("document", "served_as", "complaint"),
    [
        ([], None, "not a JSON object"),
        ({}, None, "schema version"),
        ({**MANIFEST, "schemaVersion": 1}, None, "schema version 1"),
        ({**MANIFEST, "schemaVersion": "2"}, None, "schema version"),
        ({**MANIFEST, "schemaVersion": True}, None, "schema version"),
        ({**MANIFEST, "schemaVersion": ["x" * 999]}, None, "schema version"),
        ({**MANIFEST, "mediaType": 1}, None, "mediaType"),
        ({**MANIFEST, "mediaType": "text/plain"}, None, "not a kind of manifest"),
        (without(MANIFEST, "mediaType"), "text/html", "not a kind of manifest"),
        (MANIFEST, DOCKER_MANIFEST, "but was served as"),
        (MANIFEST, OCI_INDEX, "but was served as"),
        ({**MANIFEST, "manifests": []}, None, "both"),
        ({**MANIFEST, "mediaType": OCI_INDEX}, None, "no list of `manifests`"),
        ({**INDEX, "mediaType": OCI_MANIFEST}, None, "manifest config"),
        (without(MANIFEST, "config"), None, "manifest config"),
        ({**MANIFEST, "config": []}, None, "manifest config"),
        (without(MANIFEST, "layers"), None, "no list of `layers`"),
        ({**MANIFEST, "layers": {}}, None, "no list of `layers`"),
        ({**MANIFEST, "layers": [LAYER.render(), None]}, None, r"manifest layers\[1\]"),
        ({**MANIFEST, "annotations": 1}, None, "annotations"),
        ({**MANIFEST, "artifactType": 1}, None, "artifactType"),
        ({**MANIFEST, "subject": 1}, None, "subject"),
        ({**INDEX, "manifests": [{}]}, None, r"manifest manifests\[0\]"),
    ],
)
def test_malformed_documents_are_named(document: object, served_as: str | None, complaint: str) -> None:
    """Each break of the format raises Malformed with the place."""
    with pytest.raises(Malformed, match=complaint) as caught:
        parse_document(encoded(document), served_as)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"schemaVersion":' + b"2" * 5000 + b"}", b"\x00"]
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    """Bytes that do not decode, too deep and too large numbers raise Malformed."""
    with pytest.raises(Malformed, match="not JSON"):
        parse_document(raw)


def test_a_manifest_beyond_all_measure_is_not_decoded() -> None:
    """Over the limit, the bytes are not looked at."""
    with pytest.raises(Malformed, match="limit"):
        parse_document(b"{" * (MANIFEST_LIMIT + 1))


def test_an_index_is_no_manifest() -> None:
    """Where one model is expected, an index of several raises Malformed."""
    with pytest.raises(Malformed, match="index"):
        parse_manifest(build_index(()).raw)
    assert isinstance(parse_document(build_index(()).raw), Index)


def test_building_is_reproducible() -> None:
    """The same arguments give the same bytes, and what was put in comes out."""
    made = [
        build_manifest(CONFIG, (LAYER,), annotations={"é": "ü"}, artifact_type="x/y", subject=LAYER)
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert (made[0].config, made[0].layers, made[0].subject) == (CONFIG, (LAYER,), LAYER)
    assert (dict(made[0].annotations), made[0].artifact_type) == ({"é": "ü"}, "x/y")
    assert "é".encode() in made[0].raw
    assert build_index((LAYER,), annotations={"a": "b"}).annotations == {"a": "b"}


def test_text_that_is_not_unicode_is_refused() -> None:
    """A file name that is no UTF-8, turned into an annotation, raises Malformed, not a decoding error."""
    with pytest.raises(Malformed, match="Unicode"):
        build_manifest(CONFIG, (), annotations={"title": "\udcff.gguf"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from([*MANIFEST, "manifests", "annotations", "subject", "artifactType"]), JSON)
)
def test_any_fields_parse_or_are_malformed(fields: dict[str, Any]) -> None:
    """No document, however wrong, leads to another error."""
    for base in (MANIFEST, INDEX):
        raw = encoded({**base, **fields})
        try:
            assert parse_document(raw).raw == raw
        except Malformed:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_malformed(raw: bytes) -> None:
    """No bytes lead to another error."""
    with pytest.raises(Malformed):
        parse_document(raw)
