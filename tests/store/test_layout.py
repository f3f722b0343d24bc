"""The layout on disk: making, opening, the index file, what other tools put there."""

import json
from pathlib import Path

import pytest

from qwenctl.errors import AccessDenied, Conflict, FileMissing, Malformed
from qwenctl.oci.descriptor import OCI_EMPTY, OCI_MANIFEST, REF_NAME, Descriptor
from qwenctl.store.disk import Disk
from qwenctl.store.layout import IndexFile
from qwenctl.store.store import Store
from tests.contracts.target import push_artifact
from tests.store.store_builders import REFERENCE, tagged

DESCRIPTOR = Descriptor.of(b"{}", OCI_MANIFEST)


def write_index(path: Path, *entries: dict[str, object], **fields: object) -> None:
    """Replace the index as another tool would."""
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries, **fields}))


class StopsAt(Disk):
    """A disk on which the program ends before a file gets this name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def rename(self, source: Path, target: Path) -> None:
        """Rename, or end."""
        if target.name == self.name:
            raise KeyboardInterrupt
        super().rename(source, target)


def test_a_new_store_is_an_image_layout(tmp_path: Path) -> None:
    """A fresh store has the files that the specification asks for, and no names (image-layout.md)."""
    store = Store.open(tmp_path / "a" / "b")
    assert json.loads((store.path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.path / "index.json").read_bytes()) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [],
    }
    assert (store.path / "blobs" / "sha256").is_dir()
    assert (store.entries(), store.tags(), store.path) == ((), (), tmp_path / "a" / "b")


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    """A second opening finds the names of the first."""
    tagged(Store.open(tmp_path))
    assert [reference for reference, _ in Store.open(tmp_path).tags()] == [REFERENCE]


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
def test_a_half_made_store_is_finished(tmp_path: Path, name: str) -> None:
    """Whatever step the making was killed at, the next opening finishes it."""
    with pytest.raises(KeyboardInterrupt):
        Store.open(tmp_path, disk=StopsAt(name))
    tagged(Store.open(tmp_path))
    assert not list(tmp_path.glob(".*.draft"))


def test_a_store_is_not_made_among_other_files(tmp_path: Path) -> None:
    """A directory of other things is refused untouched; hidden files and `lost+found` do not count."""
    (tmp_path / ".hidden").touch()
    (tmp_path / "lost+found").mkdir()
    Store.open(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").touch()
    with pytest.raises(Conflict, match=r"thesis\.tex"):
        Store.open(home)
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Without `create` a missing store is missing, and a directory of other things is none."""
    with pytest.raises(FileMissing, match="nowhere"):
        Store.open(tmp_path / "nowhere", create=False)
    with pytest.raises(Malformed, match="oci-layout"):
        Store.open(tmp_path, create=False)
    assert not list(tmp_path.iterdir())


def test_a_layout_of_another_tool_needs_nothing_of_ours(tmp_path: Path) -> None:
    """Opening and reading a layout with no more than the specification's files writes nothing."""
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    write_index(tmp_path, DESCRIPTOR.annotate(**{REF_NAME: "latest"}).render())
    before = sorted(tmp_path.rglob("*"))
    store = Store.open(tmp_path)
    assert [entry.name for entry in store.entries()] == ["latest"]
    assert store.tags() == ()  # `latest` alone is no full name
    assert store.usage().partial_bytes == 0
    assert sorted(tmp_path.rglob("*")) == before
    push_artifact(store)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"imageLayoutVersion": "2.0.0"}',
        "{}",
        "\xff",
        '{"imageLayoutVersion": 1}',
        "[" * 60000,
    ],
)
def test_another_layout_version_is_refused(tmp_path: Path, text: str) -> None:
    """A marker that is damaged or of another version raises Malformed with its path."""
    Store.open(tmp_path)
    (tmp_path / "oci-layout").write_text(text, encoding="latin-1")
    for create in (True, False):
        with pytest.raises(Malformed, match="oci-layout"):
            Store.open(tmp_path, create=create)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"manifests": {}}',
        '{"manifests": [1]}',
        '{"manifests": [{"mediaType": "a", "size": 1, "digest": "../../etc/passwd"}]}',
        '{"manifests": [{"mediaType": "a", "size": -1, "digest": "sha256:' + "a" * 64 + '"}]}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_a_damaged_index_is_named(tmp_path: Path, text: str) -> None:
    """An index that breaks its format raises Malformed with its path, and is not overwritten."""
    store = Store.open(tmp_path)
    push_artifact(store)
    (tmp_path / "index.json").write_text(text, encoding="latin-1")
    with pytest.raises(Malformed, match=r"index\.json"):
        store.tags()
    with pytest.raises(Malformed, match=r"index\.json"):
        store.unlink(DESCRIPTOR.digest, "docker.io/ai/qwen2.5")
    assert (tmp_path / "index.json").read_text(encoding="latin-1") == text


def test_a_lost_index_is_not_an_empty_one(tmp_path: Path) -> None:
    """A store whose index is gone says so; an empty one would have all models swept."""
    store = Store.open(tmp_path)
    (tmp_path / "index.json").unlink()
    with pytest.raises(Malformed, match="missing"):
        Store.open(tmp_path).entries()
    with pytest.raises(Malformed, match="missing"):
        store.resolve(REFERENCE)


def test_an_index_beyond_all_measure_is_not_loaded(tmp_path: Path) -> None:
    """An index over the limit raises Malformed instead of filling the memory."""
    store = Store.open(tmp_path)
    with (tmp_path / "index.json").open("wb") as file:
        file.truncate(1 << 30)  # sparse
    with pytest.raises(Malformed):
        store.entries()


def test_what_others_wrote_survives(tmp_path: Path) -> None:
    """Fields, annotations and entries that we do not know are the same after our changes."""
    store = Store.open(tmp_path)
    manifest = push_artifact(store)
    foreign: dict[str, object] = {
        **manifest.descriptor.render(),
        "annotations": {REF_NAME: "v1", "com.example": "\ud800 \u00e9"},
        "platform": {"os": "linux", "architecture": "amd64"},
        "urls": ["https://example.com/"],
        "x-unknown": [1, {"y": None}],
    }
    write_index(tmp_path, foreign, annotations={"a": "b"}, subject=None)
    store.tag(manifest.descriptor, REFERENCE)
    store.link(manifest.descriptor, "docker.io/ai/other")
    store.untag(REFERENCE)
    document = json.loads((tmp_path / "index.json").read_bytes())
    assert document["manifests"][0] == foreign
    assert (document["annotations"], document["subject"], document["schemaVersion"]) == ({"a": "b"}, None, 2)


def test_names_do_not_leak_into_content(tmp_path: Path) -> None:
    """What a tag resolves to carries the content's annotations, not those that only the index needs."""
    store = Store.open(tmp_path)
    manifest = push_artifact(store)
    given = manifest.descriptor.annotate(**{"com.example": "kept", REF_NAME: "old"})
    store.tag(given, REFERENCE)
    assert dict(store.resolve(REFERENCE).annotations) == {"com.example": "kept"}
    (entry,) = store.entries()
    assert entry.document["annotations"] == {"com.example": "kept", REF_NAME: str(REFERENCE)}


def test_an_index_without_change_is_not_written(tmp_path: Path) -> None:
    """A change that changes nothing leaves the very file."""
    store = Store.open(tmp_path)
    before = (tmp_path / "index.json").stat()
    store.unlink(DESCRIPTOR.digest, "docker.io/ai/qwen2.5")
    assert (tmp_path / "index.json").stat().st_mtime_ns == before.st_mtime_ns
    assert (tmp_path / "index.json").stat().st_ino == before.st_ino


def test_index_files_render_back() -> None:
    """Reading what was rendered gives the same."""
    raw = json.dumps({"a": [1], "manifests": [Descriptor.of(b"", OCI_EMPTY).render()]}).encode()
    index = IndexFile.parse(raw, "here")
    assert IndexFile.parse(index.render(), "here") == index


def test_a_store_path_that_is_a_file(tmp_path: Path) -> None:
    """A file in the place of the store raises AccessDenied with its path."""
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(AccessDenied, match="file"):
        Store.open(path)
    with pytest.raises(AccessDenied, match="file"):
        Store.open(path, create=False)
