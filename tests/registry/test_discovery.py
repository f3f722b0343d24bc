"""The conformance checklist of content discovery and management, restated.

Source: distribution-spec v1.1.1, "Content Discovery", "Content Management".
"""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from qwenctl.oci.descriptor import OCI_INDEX
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_index
from qwenctl.oci.reference import BUILT_IN, Reference
from qwenctl.oci.target import content_of
from qwenctl.store.store import Store
from tests.builders import index_of, model
from tests.registry.running import running_registry
from tests.registry.test_pulling import ABSENT, error_code

Push = Callable[..., Digest]
PushManifest = Callable[..., Manifest]


class TestTags:
    """Sorted, in pages."""

    def test_all(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """In ASCII order, with the repository's name."""
        for tag in ("b", "a", "B", "1"):
            push_manifest(tag)
        listed = http.get("/v2/me/model/tags/list").json()
        assert listed == {"name": "me/model", "tags": ["1", "B", "a", "b"]}

    def test_pages(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """`n` bounds, `last` is exclusive, the link leads on until there is no more."""
        for tag in ("a", "b", "c", "d", "e"):
            push_manifest(tag)
        seen, path = [], "/v2/me/model/tags/list?n=2"
        while path:
            answer = http.get(path)
            seen.append(answer.json()["tags"])
            path = answer.links.get("next", {}).get("url", "")
        assert seen == [["a", "b"], ["c", "d"], ["e"]]

    @pytest.mark.parametrize(
        ("query", "tags"),
        [("n=0", []), ("last=b", ["c"]), ("n=1&last=a", ["b"]), ("last=z", []), ("n=9", ["a", "b", "c"])],
    )
    def test_queries(
        self, http: httpx.Client, push_manifest: PushManifest, query: str, tags: list[str]
    ) -> None:
        """Each alone and both together."""
        for tag in ("a", "b", "c"):
            push_manifest(tag)
        assert http.get(f"/v2/me/model/tags/list?{query}").json()["tags"] == tags

    def test_refusals(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """404 for an unknown repository, 400 for a number that is none."""
        assert error_code(http.get("/v2/no/such/tags/list")) == "NAME_UNKNOWN"
        push_manifest("a")
        for number in ("x", "-1", "9" * 5000):
            assert http.get("/v2/me/model/tags/list", params={"n": number}).status_code == 400

    def test_the_catalog(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """All repositories, sorted, in pages."""
        for repository in ("b/b", "a/a"):
            push_manifest("v1", repository)
        assert http.get("/v2/_catalog").json() == {"repositories": ["a/a", "b/b"]}
        assert http.get("/v2/_catalog?n=1").links["next"]["url"] == "/v2/_catalog?n=1&last=a/a"


class TestReferrers:
    """The manifests whose subject is a digest, as an index."""

    def test_none(self, http: httpx.Client) -> None:
        """200 and an empty index, also for a repository and a digest that nobody knows."""
        answer = http.get(f"/v2/no/such/referrers/{ABSENT}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == OCI_INDEX
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}

    def test_a_malformed_digest(self, http: httpx.Client) -> None:
        """400."""
        assert http.get("/v2/me/model/referrers/sha256:x").status_code == 400

    def test_descriptors(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """Type, size, digest, artifact type (of an image: its config's) and annotations."""
        subject = push_manifest("v1").descriptor
        image = push_manifest("image", subject=subject)
        artifact = push_manifest(
            "artifact", subject=subject, artifact_type="application/vnd.sig", annotations={"k": "v"}
        )
        rows = http.get(f"/v2/me/model/referrers/{subject.digest}").json()["manifests"]
        assert {row["digest"]: row for row in rows} == {
            str(image.descriptor.digest): {
                **image.descriptor.render(),
                "artifactType": "application/vnd.example.config",
            },
            str(artifact.descriptor.digest): {
                **artifact.descriptor.render(),
                "artifactType": "application/vnd.sig",
                "annotations": {"k": "v"},
            },
        }

    def test_the_filter(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """`artifactType` filters, and the answer says that it did."""
        subject = push_manifest("v1").descriptor
        push_manifest("a", subject=subject, artifact_type="application/vnd.a")
        push_manifest("b", subject=subject, artifact_type="application/vnd.b")
        path = f"/v2/me/model/referrers/{subject.digest}"
        answer = http.get(path, params={"artifactType": "application/vnd.a"})
        assert [row["artifactType"] for row in answer.json()["manifests"]] == ["application/vnd.a"]
        assert answer.headers["oci-filters-applied"] == "artifactType"
        assert "oci-filters-applied" not in http.get(path).headers

    def test_a_subject_that_is_not_there(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """It is accepted and answered with `OCI-Subject`."""
        subject = model(9).manifest.descriptor
        manifest = push_manifest("v1", subject=subject)
        answer = http.put(
            "/v2/me/model/manifests/v2",
            content=manifest.raw,
            headers={"Content-Type": manifest.media_type},
        )
        assert answer.headers["oci-subject"] == str(subject.digest)
        rows = http.get(f"/v2/me/model/referrers/{subject.digest}").json()["manifests"]
        assert [row["digest"] for row in rows] == [str(manifest.descriptor.digest)]


class TestDeleting:
    """202, and gone at once."""

    def test_a_tag(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """The tag alone; the manifest stays by its digest."""
        manifest = push_manifest("v1")
        assert http.delete("/v2/me/model/manifests/v1").status_code == 202
        assert http.get("/v2/me/model/manifests/v1").status_code == 404
        assert http.get(f"/v2/me/model/manifests/{manifest.descriptor.digest}").status_code == 200
        assert http.get("/v2/me/model/tags/list").json()["tags"] == []

    def test_a_manifest(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """With all its tags, and out of the referrers."""
        subject = push_manifest("subject").descriptor
        manifest = push_manifest("v1", subject=subject)
        digest = manifest.descriptor.digest
        assert http.delete(f"/v2/me/model/manifests/{digest}").status_code == 202
        for version in ("v1", str(digest)):
            assert http.get(f"/v2/me/model/manifests/{version}").status_code == 404
        assert http.get(f"/v2/me/model/referrers/{subject.digest}").json()["manifests"] == []
        assert http.get("/v2/me/model/tags/list").json()["tags"] == ["subject"]

    def test_a_blob(self, http: httpx.Client, push_blob: Push) -> None:
        """Gone; and it can be pushed again."""
        digest = push_blob(b"content")
        assert http.delete(f"/v2/me/model/blobs/{digest}").status_code == 202
        assert http.get(f"/v2/me/model/blobs/{digest}").status_code == 404
        assert http.delete(f"/v2/me/model/blobs/{digest}").status_code == 404
        push_blob(b"content")
        assert http.get(f"/v2/me/model/blobs/{digest}").status_code == 200

    def test_a_blob_that_another_model_needs(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """It goes from this repository, and stays for the other."""
        push_manifest("v1", "me/model")
        other = push_manifest("v1", "you/model")
        digest = other.layers[0].digest
        assert http.delete(f"/v2/me/model/blobs/{digest}").status_code == 202
        assert http.get(f"/v2/me/model/blobs/{digest}").status_code == 404
        assert http.get(f"/v2/you/model/blobs/{digest}").status_code == 200

    def test_the_last_manifest(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """The repository is known as an empty one (the 1.1 program wants 200 for its tags)."""
        manifest = push_manifest("v1")
        for version in ("v1", str(manifest.descriptor.digest)):
            assert http.delete(f"/v2/me/model/manifests/{version}").status_code == 202
        answer = http.get("/v2/me/model/tags/list")
        assert (answer.status_code, answer.json()["tags"]) == (200, [])

    def test_a_manifest_under_an_index(
        self, http: httpx.Client, store: Store, push_manifest: PushManifest
    ) -> None:
        """Gone until it is pushed again; its bytes stay, for the index needs them."""
        child = push_manifest(None)
        index = build_index((child.descriptor,))
        path = f"/v2/me/model/manifests/{child.descriptor.digest}"
        kind = {"Content-Type": OCI_INDEX}
        http.put("/v2/me/model/manifests/all", content=index.raw, headers=kind).raise_for_status()
        assert http.delete(path).status_code == 202
        assert (http.get(path).status_code, http.delete(path).status_code) == (404, 404)
        assert store.exists(child.descriptor)
        push_manifest(None)
        assert http.get(path).status_code == 200

    def test_a_manifest_as_a_blob(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """What is deleted as the one is not deleted as the other."""
        digest = push_manifest("v1").descriptor.digest
        http.delete(f"/v2/me/model/blobs/{digest}")
        assert http.get(f"/v2/me/model/manifests/{digest}").status_code == 200

    def test_a_blob_that_another_repository_is_about_to_use(
        self, http: httpx.Client, store: Store, push_blob: Push
    ) -> None:
        """It stays for the manifest that comes next; with the last repository it goes from the disk."""
        digest = push_blob(b"content", "me/model")
        push_blob(b"content", "you/model")
        assert http.delete(f"/v2/me/model/blobs/{digest}").status_code == 202
        assert http.get(f"/v2/me/model/blobs/{digest}").status_code == 404
        assert http.get(f"/v2/you/model/blobs/{digest}").status_code == 200
        assert http.delete(f"/v2/you/model/blobs/{digest}").status_code == 202
        assert not store.layout.blob(digest).exists()

    def test_a_blob_whose_models_are_gone(
        self, http: httpx.Client, store: Store, push_manifest: PushManifest
    ) -> None:
        """Nothing holds it any more, so its bytes go."""
        manifest = push_manifest("v1")
        http.delete(f"/v2/me/model/manifests/{manifest.descriptor.digest}")
        http.delete(f"/v2/me/model/blobs/{manifest.layers[0].digest}")
        assert not store.exists(manifest.layers[0])

    @pytest.mark.parametrize("path", ["manifests/absent", f"manifests/{ABSENT}", f"blobs/{ABSENT}"])
    def test_what_is_not_there(self, http: httpx.Client, path: str) -> None:
        """404."""
        assert http.delete(f"/v2/me/model/{path}").status_code == 404


def test_the_server_shows_what_is_in_the_store(http: httpx.Client, store: Store) -> None:
    """A model that was pulled as `docker.io/ai/…` is served as `ai/…`."""
    made = model()
    made.put(store, Reference.parse("qwen:v1"))
    assert http.get("/v2/ai/qwen/manifests/v1").content == made.manifest.raw
    assert http.get(f"/v2/ai/qwen/blobs/{made.manifest.layers[0].digest}").content == made.weights


def test_what_is_pushed_is_in_the_store(store: Store, push_manifest: PushManifest) -> None:
    """And carries the default registry's name there."""
    manifest = push_manifest("v1", "me/model")
    assert store.resolve(Reference.parse("me/model:v1")) == manifest.descriptor


def test_a_second_store_is_read_behind_the_first(tmp_path: Path) -> None:
    """The built-in models are served beside the user's, and can be mounted, not changed."""
    front, back = Store.open(tmp_path / "front"), Store.open(tmp_path / "back")
    made = model()
    made.put(back, Reference(BUILT_IN, "guide", "latest"))
    with running_registry(front, back) as address, httpx.Client(base_url=f"http://{address}") as http:
        assert http.get("/v2/guide/manifests/latest").content == made.manifest.raw
        layer = made.manifest.layers[0].digest
        mounted = http.post("/v2/me/m/blobs/uploads/", params={"mount": str(layer), "from": "guide"})
        assert mounted.status_code == 201
        assert front.exists(made.manifest.layers[0])
        assert http.delete("/v2/guide/manifests/latest").status_code == 404
    assert len(back.tags()) == 1


def test_an_index_over_lent_manifests_takes_all_below_them(tmp_path: Path) -> None:
    """What is pushed to the first store is whole there, down to the layers."""
    front, back = Store.open(tmp_path / "front"), Store.open(tmp_path / "back")
    models = (model(1), model(2))
    index = index_of(*models)
    for made in models:
        made.put(back)
    back.push(index.descriptor, content_of(index.raw))
    back.tag(index.descriptor, Reference(BUILT_IN, "guide", "all"))
    with running_registry(front, back) as address, httpx.Client(base_url=f"http://{address}") as http:
        kind = {"Content-Type": OCI_INDEX}
        assert http.put("/v2/guide/manifests/mine", content=index.raw, headers=kind).status_code == 201
    assert front.resolve(Reference("docker.io", "guide", "mine")) == index.descriptor
    assert all(front.exists(item) for made in models for item in made.contents)


def test_a_restart_keeps_the_content_and_forgets_the_sessions(tmp_path: Path) -> None:
    """Uploads under way begin again; what was pushed is there."""
    store = Store.open(tmp_path / "store")
    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        location = http.post("/v2/me/m/blobs/uploads/").headers["location"]
        digest = Digest.of(b"kept")
        http.post("/v2/me/m/blobs/uploads/", params={"digest": str(digest)}, content=b"kept")
    with running_registry(store) as address, httpx.Client(base_url=f"http://{address}") as http:
        assert http.get(location).status_code == 404
        assert http.get(f"/v2/me/m/blobs/{digest}").content == b"kept"


def test_a_password_where_one_is_wanted(tmp_path: Path) -> None:
    """401 with a challenge, for every path; with the right one all goes on."""
    store = Store.open(tmp_path / "store")
    right = "Basic dXNlcjpwYXNz"
    with (
        running_registry(store, authorize=lambda value: value == right) as address,
        httpx.Client(base_url=f"http://{address}") as http,
    ):
        refused = http.get("/v2/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert http.get("/v2/", auth=("user", "pass")).status_code == 200


@pytest.mark.parametrize("path", ["", "_catalog", "me/model/tags/list", f"me/model/referrers/{ABSENT}"])
def test_lists_can_only_be_read(http: httpx.Client, path: str) -> None:
    """405 UNSUPPORTED for everything but GET and HEAD."""
    assert http.head(f"/v2/{path}").content == b""
    for method in ("POST", "PUT", "DELETE"):
        answer = http.request(method, f"/v2/{path}")
        assert (answer.status_code, error_code(answer)) == (405, "UNSUPPORTED")
