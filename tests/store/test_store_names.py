"""Names in a store: tags, links, ids, removal of names; where content is."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qwenctl.errors import BlobUnknown, Conflict, Malformed, ReferenceUnknown
from qwenctl.oci.descriptor import OCI_EMPTY, OCI_MANIFEST, REF_NAME, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import MANIFEST_LIMIT, build_manifest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import read_document
from qwenctl.store.layout import REPOSITORY, Entry
from qwenctl.store.store import BYTES, Store
from tests.contracts.target import push_artifact, push_bytes, some_bytes, untouchable
from tests.store.store_builders import REFERENCE, tagged


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.open(tmp_path / "store")


def test_untag_takes_the_name_alone(store: Store) -> None:
    """Untagging gives what was named; the content and other names stay."""
    manifest = tagged(store)
    other = REFERENCE.tagged("other")
    store.tag(manifest.descriptor, other)
    assert store.untag(REFERENCE).digest == manifest.descriptor.digest
    assert [reference for reference, _ in store.tags()] == [other]
    assert store.exists(manifest.descriptor)
    with pytest.raises(ReferenceUnknown, match=r"qwen2\.5:7B-Q4_K_M"):
        store.untag(REFERENCE)


def test_tags_keep_their_case(store: Store) -> None:
    """Two tags that differ in case are two tags, also where file names are not."""
    first, second = (
        tagged(store, seed, REFERENCE.tagged(tag)).descriptor for seed, tag in enumerate(["a", "A"])
    )
    assert store.resolve(REFERENCE.tagged("a")) == first
    assert store.resolve(REFERENCE.tagged("A")) == second


def test_a_tag_needs_everything_under_it(store: Store) -> None:
    """A manifest whose layer went meanwhile cannot be tagged or linked."""
    manifest = push_artifact(store)
    store.blob_path(manifest.layers[0]).unlink()
    with pytest.raises(BlobUnknown, match=str(manifest.layers[0].digest)):
        store.tag(manifest.descriptor, REFERENCE)
    with pytest.raises(BlobUnknown):
        store.link(manifest.descriptor, "docker.io/ai/qwen2.5")
    assert store.entries() == ()


def test_links_keep_manifests_without_tags(store: Store) -> None:
    """A link is one entry per repository, is no tag, and can be taken away twice."""
    manifest = push_artifact(store)
    for repository in ("ghcr.io/a/b", "ghcr.io/a/c", "ghcr.io/a/b"):
        store.link(manifest.descriptor, repository)
    assert [entry.repository for entry in store.entries()] == ["ghcr.io/a/b", "ghcr.io/a/c"]
    assert store.entries()[0].document["annotations"] == {REPOSITORY: "ghcr.io/a/b"}
    assert store.tags() == ()
    for _ in range(2):
        store.unlink(manifest.descriptor.digest, "ghcr.io/a/b")
    assert [entry.repository for entry in store.entries()] == ["ghcr.io/a/c"]


def test_a_pinned_name_is_a_link(store: Store) -> None:
    """Tagging by digest keeps the content in its repository, and untagging by digest lets it go."""
    manifest = push_artifact(store)
    pinned = REFERENCE.at(manifest.descriptor.digest)
    store.tag(manifest.descriptor, pinned)
    assert [entry.repository for entry in store.entries()] == ["docker.io/ai/qwen2.5"]
    assert store.untag(pinned) == manifest.descriptor
    with pytest.raises(ReferenceUnknown):
        store.untag(pinned)
    assert store.entries() == ()


def test_ids_find_models(store: Store) -> None:
    """An id is the start of a digest, in hex or in full; the first tag comes with it, None without one."""
    one, two = tagged(store, 1), push_artifact(store, 2)
    store.link(one.descriptor, "docker.io/ai/qwen2.5")
    store.link(two.descriptor, "docker.io/ai/qwen2.5")
    digest = one.descriptor.digest
    for prefix in (digest.short, digest.hex, str(digest), str(digest)[:20]):
        assert store.find(prefix) == (REFERENCE, one.descriptor)
    assert store.find(two.descriptor.digest.short) == (None, two.descriptor)
    for unknown in ("f" * 64, digest.hex.upper(), digest.hex[1:], "no hex"):
        with pytest.raises(ReferenceUnknown):
            store.find(unknown)
    for ambiguous in ("", "sha256:"):
        with pytest.raises(Conflict, match="several"):
            store.find(ambiguous)


def test_foreign_names_are_not_tags(store: Store) -> None:
    """Only full canonical names count: the short names of other tools would turn into something else."""
    manifest = push_artifact(store)
    names = {
        "latest": False,
        "qwen2.5:latest": False,
        "docker.io/ai/qwen2.5": False,
        "Docker.io/ai/qwen2.5:latest": False,
        "not a name": False,
        f"docker.io/ai/qwen2.5@{manifest.descriptor.digest}": False,
        "docker.io/ai/qwen2.5:latest": True,
        "localhost:5000/x:Y": True,
        "qwenctl.internal/guide:latest": True,
    }
    for name, is_tag in names.items():
        entry = Entry.tag(manifest.descriptor, name)
        assert (entry.reference is not None) is is_tag, name
        assert Entry.parse(entry.document, "here") == entry
        assert entry.document["annotations"] == {REF_NAME: name}


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.lists(COMPONENT, min_size=1, max_size=4), tag=TAG)
def test_every_parsed_reference_can_be_a_tag(store: Store, path: list[str], tag: str) -> None:
    """What the grammar accepts is found again under its name."""
    reference = Reference.parse(f"localhost:5000/{'/'.join(path)}:{tag}")
    manifest = tagged(store, reference=reference)
    assert (reference, manifest.descriptor) in store.tags()
    assert store.untag(reference) == manifest.descriptor


def test_a_digest_resolves_with_the_kind_in_the_index(store: Store) -> None:
    """A tagged manifest resolves by digest as the index lists it; any other as its bytes say."""
    manifest = tagged(store)
    assert store.resolve(REFERENCE.at(manifest.descriptor.digest)) == manifest.descriptor
    store.untag(REFERENCE)
    assert store.resolve(REFERENCE.at(manifest.descriptor.digest)) == manifest.descriptor


def test_blobs_have_paths(store: Store) -> None:
    """The path of a blob is given out only while the blob has its size."""
    descriptor = push_bytes(store, some_bytes(size=100))
    path = store.blob_path(descriptor)
    assert path == store.path / "blobs" / "sha256" / descriptor.digest.hex
    assert path.stat().st_mode & 0o777 == 0o444
    path.chmod(0o644)
    path.write_bytes(b"short")
    with pytest.raises(BlobUnknown):
        store.blob_path(descriptor)


@pytest.mark.parametrize("left", [b"", b"short", b"x" * 5000])
def test_a_blob_of_another_size_is_replaced(store: Store, left: bytes) -> None:
    """What a crashed disk left under a final name does not count, and the next push replaces it."""
    raw = some_bytes(size=1000)
    path = store.blob_path(push_bytes(store, raw))
    path.unlink()
    path.write_bytes(left)
    push_bytes(store, raw)
    assert path.read_bytes() == raw


def test_a_damaged_manifest_is_replaced(store: Store) -> None:
    """Manifests are hashed at each look, so a damaged one of the right size is absent, and comes back."""
    manifest = tagged(store)
    path = store.blob_path(manifest.descriptor)
    path.unlink()
    path.write_bytes(manifest.raw[::-1])
    assert not store.exists(manifest.descriptor)
    store.untag(REFERENCE)
    with pytest.raises(ReferenceUnknown):
        store.resolve(REFERENCE.at(manifest.descriptor.digest))
    push_artifact(store)
    assert read_document(store, manifest.descriptor) == manifest


def test_an_enormous_manifest_is_refused_unread(store: Store) -> None:
    """A manifest over the limit raises Malformed before a byte is asked for."""
    digest = Digest.of(b"")
    with pytest.raises(Malformed, match="limit"):
        store.push(Descriptor(OCI_MANIFEST, digest, MANIFEST_LIMIT + 1), untouchable)


@pytest.mark.parametrize("raw", [b"no json", b"{}", b'{"schemaVersion":2}', b"[]", b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(store: Store, raw: bytes) -> None:
    """Bytes with the right digest that are no manifest raise Malformed and leave nothing."""
    with pytest.raises(Malformed):
        push_bytes(store, raw, OCI_MANIFEST)
    assert store.usage().blobs == store.usage().partial_bytes == 0
    assert not list(store.layout.ingests.iterdir())


def test_content_is_described_by_digest(store: Store) -> None:
    """Of content whose digest alone is known, the size can be asked."""
    descriptor = push_bytes(store, b"12345")
    assert store.describe(descriptor.digest) == Descriptor(BYTES, descriptor.digest, 5)
    with pytest.raises(BlobUnknown):
        store.describe(Digest.of(b""))


def test_usage_counts_content_once(store: Store) -> None:
    """Two tags of one model, or models that share a config, take their bytes once."""
    manifest = tagged(store)
    store.tag(manifest.descriptor, REFERENCE.tagged("again"))
    again = build_manifest(manifest.config, manifest.layers, annotations={"a": "b"})
    push_bytes(store, again.raw, OCI_MANIFEST)
    usage = store.usage()
    assert usage.blobs == 4
    assert usage.size_bytes == manifest.content_size + len(manifest.raw) + len(again.raw)
    (store.layout.ingests / "sha256-x").write_bytes(bytes(10))
    assert store.usage().partial_bytes == 10


def test_empty_config_is_shared(store: Store) -> None:
    """The empty config of many artifacts is one blob."""
    for seed in range(3):
        config = push_bytes(store, b"{}", OCI_EMPTY)
        layer = push_bytes(store, b"%d" % seed)
        push_bytes(store, build_manifest(config, (layer,)).raw, OCI_MANIFEST)
    assert store.usage().blobs == 1 + 3 + 3
