"""The conformance checklist of pushing, restated.

Source: distribution-spec v1.1.1, "Push".
"""

import json
from collections.abc import Callable, Iterator

import httpx
import pytest

from qwenctl.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_index, build_manifest
from tests.registry.test_pulling import ABSENT, error_code

Push = Callable[..., Digest]
PushManifest = Callable[..., Manifest]
RAW = b"the bytes of a blob"
DIGEST = str(Digest.of(RAW))


def start(http: httpx.Client, repository: str = "me/model") -> str:
    """A new upload session's location."""
    answer = http.post(f"/v2/{repository}/blobs/uploads/")
    assert answer.status_code == 202
    return str(answer.headers["location"])


def is_there(http: httpx.Client, digest: str = DIGEST, repository: str = "me/model") -> bool:
    """Whether a blob can be pulled."""
    return http.get(f"/v2/{repository}/blobs/{digest}").status_code == 200


class TestMonolithic:
    """One POST with the digest, or POST then PUT."""

    def test_post_then_put(self, http: httpx.Client) -> None:
        """201, with a location that can be fetched and the digest."""
        answer = http.put(start(http), params={"digest": DIGEST}, content=RAW)
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == RAW
        assert answer.headers["docker-content-digest"] == DIGEST

    def test_single_post(self, http: httpx.Client) -> None:
        """201 at once."""
        answer = http.post("/v2/me/model/blobs/uploads/", params={"digest": DIGEST}, content=RAW)
        assert answer.status_code == 201
        assert is_there(http)

    def test_sha512(self, http: httpx.Client) -> None:
        """Either algorithm, and only the one that was asked for."""
        digest = str(Digest.of(RAW, "sha512"))
        answer = http.put(start(http), params={"digest": digest}, content=RAW)
        assert answer.status_code == 201
        assert is_there(http, digest)
        assert not is_there(http)

    @pytest.mark.parametrize("digest", [ABSENT, "sha256:x", "md5:00", ""])
    @pytest.mark.parametrize("how", ["post", "put"])
    def test_a_wrong_digest(self, http: httpx.Client, how: str, digest: str) -> None:
        """400 DIGEST_INVALID, and nothing is there."""
        path = "/v2/me/model/blobs/uploads/" if how == "post" else start(http)
        answer = http.request(how.upper(), path, params={"digest": digest}, content=RAW)
        assert (answer.status_code, error_code(answer)) == (400, "DIGEST_INVALID")
        assert not is_there(http)

    def test_pushing_again_is_no_error(self, http: httpx.Client, push_blob: Push) -> None:
        """What is there already is accepted."""
        assert push_blob(RAW) == push_blob(RAW)


class TestChunked:
    """POST, PATCH for each chunk, PUT."""

    def test_chunks_in_order(self, http: httpx.Client) -> None:
        """Each answer says how far it got and where to go on."""
        location = start(http)
        for first, chunk in ((0, RAW[:7]), (7, RAW[7:12])):
            headers = {"Content-Range": f"{first}-{first + len(chunk) - 1}"}
            answer = http.patch(location, content=chunk, headers=headers)
            assert answer.status_code == 202
            assert answer.headers["range"] == f"0-{first + len(chunk) - 1}"
            location = answer.headers["location"]
        answer = http.put(
            location,
            params={"digest": DIGEST},
            content=RAW[12:],
            headers={"Content-Range": f"12-{len(RAW) - 1}"},
        )
        assert answer.status_code == 201
        assert http.get(f"/v2/me/model/blobs/{DIGEST}").content == RAW

    def test_one_stream_without_a_range(self, http: httpx.Client) -> None:
        """A PATCH with chunked transfer encoding, as Docker and skopeo send it."""

        def pieces() -> Iterator[bytes]:
            yield from (RAW[:5], RAW[5:])

        location = http.patch(start(http), content=pieces()).headers["location"]
        assert http.put(location, params={"digest": DIGEST}).status_code == 201
        assert is_there(http)

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    @pytest.mark.parametrize("content_range", ["5-9", "0-99", "9-5", "rubbish", "-"])
    def test_out_of_order(self, http: httpx.Client, method: str, content_range: str) -> None:
        """416, and the session lives on where it was."""
        location = start(http)
        params = {"digest": DIGEST} if method == "PUT" else {}
        headers = {"Content-Range": content_range}
        answer = http.request(method, location, content=RAW[:3], headers=headers, params=params)
        assert answer.status_code == 416
        assert answer.headers["location"] == location
        assert http.put(location, params={"digest": DIGEST}, content=RAW).status_code == 201

    def test_a_refused_body_is_swallowed(self, http: httpx.Client) -> None:
        """Also one larger than any buffer: the client reads the answer, and the connection goes on."""
        location = start(http)
        refused = http.patch(location, content=b"x" * (8 << 20), headers={"Content-Range": "1-8388608"})
        assert refused.status_code == 416
        assert http.get(location).headers["range"] == "0-0"

    def test_asking_how_far_it_got(self, http: httpx.Client) -> None:
        """GET gives 204 with the range; `0-0` also when there is nothing yet."""
        location = start(http)
        empty = http.get(location)
        assert (empty.status_code, empty.headers["range"]) == (204, "0-0")
        http.patch(location, content=RAW[:8])
        answer = http.get(location)
        assert (answer.status_code, answer.headers["range"]) == (204, "0-7")
        assert answer.headers["location"] == location

    def test_giving_up(self, http: httpx.Client) -> None:
        """DELETE gives 204; then the session is unknown."""
        location = start(http)
        assert http.delete(location).status_code == 204
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            answer = http.request(method, location, params={"digest": DIGEST})
            assert (answer.status_code, error_code(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_a_session_belongs_to_its_repository(self, http: httpx.Client) -> None:
        """Another repository does not know it."""
        location = start(http).replace("/me/model/", "/you/model/")
        assert http.get(location).status_code == 404

    def test_an_algorithm_of_ones_own(self, http: httpx.Client) -> None:
        """`digest-algorithm` says what the session is hashed with; an unknown one is refused."""
        answer = http.post("/v2/me/model/blobs/uploads/", params={"digest-algorithm": "sha512"})
        digest = str(Digest.of(RAW, "sha512"))
        done = http.put(answer.headers["location"], params={"digest": digest}, content=RAW)
        assert done.status_code == 201
        refused = http.post("/v2/me/model/blobs/uploads/", params={"digest-algorithm": "md5"})
        assert refused.status_code == 400


class TestMounting:
    """A blob of another repository is taken over without its bytes."""

    def test_what_is_there(self, http: httpx.Client, push_blob: Push) -> None:
        """201 with a location that can be fetched."""
        push_blob(RAW, "me/model")
        answer = http.post("/v2/you/model/blobs/uploads/", params={"mount": DIGEST, "from": "me/model"})
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == RAW

    def test_from_anywhere(self, http: httpx.Client, push_blob: Push) -> None:
        """Without `from` any repository will do: all have one owner."""
        push_blob(RAW, "me/model")
        answer = http.post("/v2/you/model/blobs/uploads/", params={"mount": DIGEST})
        assert answer.status_code == 201
        assert http.delete(f"/v2/me/model/blobs/{DIGEST}").status_code == 202
        assert is_there(http, repository="you/model")

    def test_from_where_it_was_deleted(self, http: httpx.Client, push_blob: Push) -> None:
        """202, although another repository still has it."""
        push_blob(RAW, "me/model")
        push_blob(RAW, "you/model")
        http.delete(f"/v2/me/model/blobs/{DIGEST}")
        answer = http.post("/v2/our/model/blobs/uploads/", params={"mount": DIGEST, "from": "me/model"})
        assert answer.status_code == 202

    def test_what_is_not_there(self, http: httpx.Client) -> None:
        """202: an ordinary upload begins."""
        answer = http.post("/v2/you/model/blobs/uploads/", params={"mount": ABSENT, "from": "me/model"})
        assert answer.status_code == 202
        assert http.put(answer.headers["location"], params={"digest": DIGEST}, content=RAW).status_code == 201


def put(
    http: httpx.Client, version: str, raw: bytes, kind: str = OCI_MANIFEST, **params: object
) -> httpx.Response:
    """PUT of a manifest."""
    return http.put(
        f"/v2/me/model/manifests/{version}",
        content=raw,
        headers={"Content-Type": kind},
        params=params,  # type: ignore[arg-type]
    )


class TestManifests:
    """Stored verbatim, after what they refer to."""

    def test_location_and_digest(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """201 with a location that can be fetched."""
        manifest = push_manifest("v1")
        answer = put(http, "v2", manifest.raw)
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == manifest.raw
        assert answer.headers["docker-content-digest"] == str(manifest.descriptor.digest)

    def test_bytes_are_kept_verbatim(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """Spaces, order and unknown fields survive: the digest is of these bytes."""
        document = {**json.loads(push_manifest("v1").raw), "org.example.unknown": [1, 2]}
        raw = json.dumps(document, indent=3).encode()
        assert put(http, "v2", raw).status_code == 201
        assert http.get("/v2/me/model/manifests/v2").content == raw

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_by_digest(self, http: httpx.Client, push_manifest: PushManifest, algorithm: str) -> None:
        """Either algorithm; without a tag it is found by its digest."""
        raw = push_manifest("v1").raw + b" "
        digest = str(Digest.of(raw, "sha512" if algorithm == "sha512" else "sha256"))
        assert put(http, digest, raw).status_code == 201
        assert http.get(f"/v2/me/model/manifests/{digest}").content == raw
        assert http.get("/v2/me/model/tags/list").json()["tags"] == ["v1"]

    def test_tags_beside_a_digest(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """`?tag=a&tag=b` tags it and says so."""
        manifest = push_manifest("v1")
        answer = put(http, str(manifest.descriptor.digest), manifest.raw, tag=["a", "b"])
        assert (answer.status_code, answer.headers["oci-tag"]) == (201, "a, b")
        assert http.get("/v2/me/model/manifests/b").content == manifest.raw

    def test_a_moved_tag_leaves_the_old_manifest_by_digest(
        self, http: httpx.Client, push_manifest: PushManifest
    ) -> None:
        """Who pinned the old one still gets it."""
        old = push_manifest("v1")
        assert put(http, "v1", old.raw + b"\n").status_code == 201
        assert http.get(f"/v2/me/model/manifests/{old.descriptor.digest}").status_code == 200

    @pytest.mark.parametrize(
        ("version", "raw", "kind", "status", "code"),
        [
            ("v1", b"not json", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
            ("v1", b"[]", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
            ("v1", b'{"schemaVersion":1}', OCI_MANIFEST, 400, "MANIFEST_INVALID"),
            (".bad", b"{}", OCI_MANIFEST, 400, "MANIFEST_INVALID"),
            ("sha256:bad", b"{}", OCI_MANIFEST, 400, "DIGEST_INVALID"),
            (ABSENT, b"{}", OCI_MANIFEST, 400, "DIGEST_INVALID"),
        ],
    )
    def test_refusals(
        self, http: httpx.Client, version: str, raw: bytes, kind: str, status: int, code: str
    ) -> None:
        """400 with the code and the JSON body."""
        answer = put(http, version, raw, kind)
        assert (answer.status_code, error_code(answer)) == (status, code)

    def test_a_type_that_contradicts_the_transport(
        self, http: httpx.Client, push_manifest: PushManifest
    ) -> None:
        """`mediaType` and `Content-Type` must agree."""
        assert put(http, "v2", push_manifest("v1").raw, OCI_INDEX).status_code == 400

    def test_missing_content_is_refused(self, http: httpx.Client) -> None:
        """A manifest whose blobs are not there is not accepted."""
        layer = Descriptor.of(b"absent", "application/vnd.example.layer")
        answer = put(http, "v1", build_manifest(layer, (layer,)).raw)
        assert (answer.status_code, error_code(answer)) == (404, "MANIFEST_BLOB_UNKNOWN")

    def test_layers_that_may_not_be_passed_on_may_be_absent(
        self, http: httpx.Client, push_blob: Push
    ) -> None:
        """Non-distributable layers need not exist."""
        push_blob(b"{}")
        kind = "application/vnd.oci.image.layer.nondistributable.v1.tar"
        manifest = build_manifest(
            Descriptor.of(b"{}", "application/vnd.example.config"), (Descriptor.of(b"absent", kind),)
        )
        assert put(http, "v1", manifest.raw).status_code == 201

    def test_empty_lists(self, http: httpx.Client, push_blob: Push) -> None:
        """A manifest without layers and an index without manifests are valid."""
        push_blob(b"{}")
        config = Descriptor.of(b"{}", "application/vnd.oci.empty.v1+json")
        manifest = build_manifest(config, (), artifact_type="application/vnd.example")
        assert put(http, "v1", manifest.raw).status_code == 201
        assert put(http, "v2", build_index(()).raw, OCI_INDEX).status_code == 201

    def test_four_mebibytes(self, http: httpx.Client, push_blob: Push) -> None:
        """The specification asks for 4 MiB at the least; far more is refused with 413."""
        push_blob(b"{}")
        config = Descriptor.of(b"{}", "application/vnd.example.config")
        manifest = build_manifest(config, (), annotations={"padding": "x" * (4 << 20)})
        assert put(http, "v1", manifest.raw).status_code == 201
        assert put(http, "v2", b" " * (17 << 20)).status_code == 413

    def test_an_index_over_manifests(self, http: httpx.Client, push_manifest: PushManifest) -> None:
        """Children first; the index then serves under its tag."""
        one, two = push_manifest(None), push_manifest("two")
        index = build_index((one.descriptor, two.descriptor))
        assert put(http, "all", index.raw, OCI_INDEX).status_code == 201
        assert http.get("/v2/me/model/manifests/all").headers["content-type"] == OCI_INDEX
        absent = Descriptor.of(b"absent", OCI_MANIFEST)
        refused = put(http, "bad", build_index((absent,)).raw, OCI_INDEX)
        assert (refused.status_code, error_code(refused)) == (404, "MANIFEST_BLOB_UNKNOWN")

    @pytest.mark.parametrize("path", ["blobs/uploads/", "manifests/v1"])
    def test_other_methods(self, http: httpx.Client, path: str) -> None:
        """405 UNSUPPORTED."""
        answer = http.request("OPTIONS", f"/v2/me/model/{path}")
        assert (answer.status_code, error_code(answer)) == (405, "UNSUPPORTED")
