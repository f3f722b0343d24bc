"""The conformance checklist of pulling, restated.

Source: distribution-spec v1.1.1, "Pull"; RFC 9110 section 14.
"""

import hashlib
from collections.abc import Callable

import httpx
import pytest

from qwenctl.oci.descriptor import OCI_MANIFEST
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest

Push = Callable[..., Digest]
PushManifest = Callable[..., Manifest]
ABSENT = "sha256:" + "0" * 64


def error_code(answer: httpx.Response) -> str:
    """The code of an error answer."""
    return str(answer.json()["errors"][0]["code"])


class TestDeterminingSupport:
    """`GET /v2/` answers 200 where the API is implemented."""

    @pytest.mark.parametrize("path", ["/v2/", "/v2"])
    def test_the_api_is_there(self, http: httpx.Client, path: str) -> None:
        """With and without the last slash."""
        assert http.get(path).status_code == 200


class TestPullingBlobs:
    """A blob is served whole, or in part, with its digest and its exact length."""

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    def test_get_and_head(self, http: httpx.Client, push_blob: Push, algorithm: str) -> None:
        """The bytes, their length, and the digest that was asked for; HEAD has no body."""
        digest = push_blob(b"some bytes", algorithm=algorithm)
        got = http.get(f"/v2/me/model/blobs/{digest}")
        head = http.head(f"/v2/me/model/blobs/{digest}")
        assert (got.status_code, got.content) == (200, b"some bytes")
        assert (head.status_code, head.content) == (200, b"")
        for answer in (got, head):
            assert answer.headers["content-length"] == "10"
            assert answer.headers["docker-content-digest"] == str(digest)

    @pytest.mark.parametrize(
        ("wanted", "part", "content_range"),
        [
            ("bytes=0-3", b"0123", "bytes 0-3/10"),
            ("bytes=4-", b"456789", "bytes 4-9/10"),
            ("bytes=-3", b"789", "bytes 7-9/10"),
            ("bytes=-99", b"0123456789", "bytes 0-9/10"),
            ("bytes=8-99", b"89", "bytes 8-9/10"),
        ],
    )
    def test_ranges(
        self, http: httpx.Client, push_blob: Push, wanted: str, part: bytes, content_range: str
    ) -> None:
        """From-to, from, last n; the end is clamped."""
        digest = push_blob(b"0123456789")
        answer = http.get(f"/v2/me/model/blobs/{digest}", headers={"Range": wanted})
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"] == content_range
        assert answer.headers["content-length"] == str(len(part))

    @pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=500-0", "bytes=99-100", "bytes=-0"])
    def test_ranges_without_a_byte(self, http: httpx.Client, push_blob: Push, wanted: str) -> None:
        """416 with the total, and the connection goes on."""
        digest = push_blob(b"0123456789")
        answer = http.get(f"/v2/me/model/blobs/{digest}", headers={"Range": wanted})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == "bytes */10"
        assert http.get(f"/v2/me/model/blobs/{digest}").status_code == 200

    def test_a_condition_on_other_content_gives_the_whole(self, http: httpx.Client, push_blob: Push) -> None:
        """`If-Range` with another tag ignores the range."""
        digest = push_blob(b"0123456789")
        headers = {"Range": "bytes=0-3", "If-Range": '"other"'}
        assert http.get(f"/v2/me/model/blobs/{digest}", headers=headers).status_code == 200

    def test_the_empty_blob(self, http: httpx.Client, push_blob: Push) -> None:
        """Zero bytes are content like any other."""
        digest = push_blob(b"")
        answer = http.get(f"/v2/me/model/blobs/{digest}")
        assert (answer.status_code, answer.content) == (200, b"")

    def test_a_large_blob_is_served_whole(self, http: httpx.Client, push_blob: Push) -> None:
        """Several pieces arrive in order."""
        raw = b"".join(hashlib.sha256(n.to_bytes(4)).digest() for n in range(100_000))
        digest = push_blob(raw)
        assert http.get(f"/v2/me/model/blobs/{digest}").content == raw

    @pytest.mark.parametrize(
        ("digest", "status", "code"),
        [
            (ABSENT, 404, "BLOB_UNKNOWN"),
            ("sha256:short", 400, "DIGEST_INVALID"),
            ("md5:00", 400, "DIGEST_INVALID"),
        ],
    )
    def test_what_is_not_there(self, http: httpx.Client, digest: str, status: int, code: str) -> None:
        """404 for an unknown digest, 400 for none, each with the JSON body."""
        answer = http.get(f"/v2/me/model/blobs/{digest}")
        assert (answer.status_code, error_code(answer)) == (status, code)
        assert http.head(f"/v2/me/model/blobs/{digest}").status_code == status


class TestPullingManifests:
    """A manifest is served as it was pushed, by tag and by digest."""

    @pytest.mark.parametrize("by", ["tag", "digest"])
    def test_get_and_head(self, http: httpx.Client, push_manifest: PushManifest, by: str) -> None:
        """The same bytes, type and digest."""
        manifest = push_manifest("v1")
        digest = str(manifest.descriptor.digest)
        path = f"/v2/me/model/manifests/{'v1' if by == 'tag' else digest}"
        got, head = http.get(path), http.head(path)
        assert (got.status_code, got.content) == (200, manifest.raw)
        assert (head.status_code, head.content) == (200, b"")
        for answer in (got, head):
            assert answer.headers["content-type"] == OCI_MANIFEST
            assert answer.headers["content-length"] == str(len(manifest.raw))
            assert answer.headers["docker-content-digest"] == digest

    @pytest.mark.parametrize("version", ["absent", ABSENT, ".notatag", "-x", "a" * 129])
    def test_what_is_not_there(self, http: httpx.Client, push_manifest: PushManifest, version: str) -> None:
        """404 with the JSON body, also for a name that cannot be a tag (conformance 1.0, "invalid tag")."""
        push_manifest("v1")
        answer = http.get(f"/v2/me/model/manifests/{version}")
        assert (answer.status_code, error_code(answer)) == (404, "MANIFEST_UNKNOWN")
        assert http.head(f"/v2/me/model/manifests/{version}").status_code == 404

    def test_a_malformed_digest(self, http: httpx.Client) -> None:
        """400 for a digest that is none."""
        answer = http.get("/v2/me/model/manifests/sha256:totallywrong")
        assert (answer.status_code, error_code(answer)) == (400, "DIGEST_INVALID")

    def test_another_repository_does_not_have_it(
        self, http: httpx.Client, push_manifest: PushManifest
    ) -> None:
        """Manifests belong to their repository."""
        manifest = push_manifest("v1")
        assert http.get(f"/v2/you/model/manifests/{manifest.descriptor.digest}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/v2/UPPER/tags/list", "/v2/a//b/tags/list", "/v2/x", "/v1/", "/v2/../etc/tags/list"]
)
def test_paths_outside_the_grammar(http: httpx.Client, path: str) -> None:
    """A name by no grammar is not found; nothing of it reaches a file name."""
    assert http.get(path).status_code == 404


def test_an_error_inside_is_no_traceback(
    http: httpx.Client, push_manifest: PushManifest, store: object
) -> None:
    """A damaged store answers 5xx with the JSON body."""
    from qwenctl.store.store import Store

    assert isinstance(store, Store)
    push_manifest("v1")
    (store.path / "index.json").write_text("broken")
    answer = http.get("/v2/me/model/manifests/v1")
    assert answer.status_code == 500
    assert "index.json" in answer.json()["errors"][0]["message"]
