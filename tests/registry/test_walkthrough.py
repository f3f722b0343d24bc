"""The conformance programs' walk over each kind of content: push, list, head, pull, referrers, delete.

Source: distribution-spec v1.1.1 and its conformance program ("1.1+dev", everything switched on).
"""

import json

import httpx
import pytest

from qwenctl.oci.descriptor import OCI_INDEX
from qwenctl.oci.digest import Algorithm, Digest
from tests.registry.registry_builders import DATA_SETS, TAGGED_BY_PARAMETER, Content

PATH = "/v2/conformance/repo1"


def push_blobs(http: httpx.Client, content: Content) -> None:
    """Every blob, in a session of its own."""
    for digest, raw in content.blobs.items():
        location = http.post(f"{PATH}/blobs/uploads/").headers["location"]
        assert http.put(location, params={"digest": str(digest)}, content=raw).status_code == 201


def push_manifest(http: httpx.Client, raw: bytes, version: str, digest: Digest, *tags: str) -> httpx.Response:
    """One manifest, proved at the location that the answer gives."""
    kind = {"Content-Type": json.loads(raw)["mediaType"]}
    answer = http.put(f"{PATH}/manifests/{version}", content=raw, headers=kind, params={"tag": list(tags)})
    assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, str(digest)), answer.text
    subject = json.loads(raw).get("subject", {}).get("digest")
    assert answer.headers.get("oci-subject") == subject
    assert_manifest(http.get(answer.headers["location"]), raw, digest)
    return answer


def assert_manifest(answer: httpx.Response, raw: bytes, digest: Digest) -> None:
    """An answer to GET or HEAD of a manifest."""
    assert answer.status_code == 200
    assert answer.content == (b"" if answer.request.method == "HEAD" else raw)
    assert answer.headers["content-type"] == json.loads(raw)["mediaType"]
    assert answer.headers["content-length"] == str(len(raw))
    assert answer.headers["docker-content-digest"] == str(digest)


def assert_pulled(http: httpx.Client, content: Content) -> None:
    """Everything is there, by each of its names."""
    versions = {str(digest): digest for digest in content.manifests} | content.tags
    for version, digest in versions.items():
        for method in ("HEAD", "GET"):
            answer = http.request(method, f"{PATH}/manifests/{version}")
            assert_manifest(answer, content.manifests[digest], digest)
    for digest, raw in content.blobs.items():
        head, got = (http.request(method, f"{PATH}/blobs/{digest}") for method in ("HEAD", "GET"))
        assert (head.status_code, got.status_code) == (200, 200)
        assert (head.content, got.content) == (b"", raw)
        assert head.headers["content-length"] == got.headers["content-length"] == str(len(raw))
        assert head.headers["docker-content-digest"] == str(digest)


def assert_listed(http: httpx.Client, content: Content) -> None:
    """The tags are listed, and `last` cuts them."""
    tags = http.get(f"{PATH}/tags/list").json()["tags"]
    assert tags == sorted(content.tags)
    for last in tags:
        rest = http.get(f"{PATH}/tags/list", params={"last": last}).json()["tags"]
        assert rest == [tag for tag in tags if tag > last]


def assert_referred(http: httpx.Client, content: Content) -> None:
    """Each subject lists its referrers, all and by type."""
    for subject, rows in content.referrers.items():
        answer = http.get(f"{PATH}/referrers/{subject}")
        assert answer.headers["content-type"] == OCI_INDEX
        assert by_digest(answer.json()["manifests"]) == by_digest(rows)
        for kind in {row["artifactType"] for row in rows if "artifactType" in row}:
            filtered = http.get(f"{PATH}/referrers/{subject}", params={"artifactType": kind})
            assert filtered.headers["oci-filters-applied"] == "artifactType"
            wanted = [row for row in rows if row.get("artifactType") == kind]
            assert by_digest(filtered.json()["manifests"]) == by_digest(wanted)


def by_digest(rows: list[dict[str, object]]) -> dict[object, dict[str, object]]:
    """Rows in no order."""
    return {row["digest"]: row for row in rows}


def delete_all(http: httpx.Client, content: Content) -> None:
    """Tags, then manifests from the top, then blobs; each is gone at once."""
    manifests = [f"manifests/{digest}" for digest in reversed(content.manifests)]
    blobs = [f"blobs/{digest}" for digest in content.blobs]
    for path in [*(f"manifests/{tag}" for tag in content.tags), *manifests, *blobs]:
        assert http.delete(f"{PATH}/{path}").status_code == 202, path
        assert http.head(f"{PATH}/{path}").status_code == 404, path
    for subject in content.referrers:
        assert http.get(f"{PATH}/referrers/{subject}").json()["manifests"] == []


@pytest.mark.parametrize("name", DATA_SETS)
def test_by_digest_and_tag(http: httpx.Client, name: str) -> None:
    """Each kind of content goes in, is found, comes out and goes."""
    content = DATA_SETS[name]
    push_blobs(http, content)
    for digest, raw in content.manifests.items():
        push_manifest(http, raw, str(digest), digest)
    for tag, digest in content.tags.items():
        push_manifest(http, content.manifests[digest], tag, digest)
    assert_listed(http, content)
    assert_pulled(http, content)
    assert_referred(http, content)
    delete_all(http, content)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_by_digest_with_tags_as_parameters(http: httpx.Client, algorithm: Algorithm) -> None:
    """`?tag=` gives several tags in one request, whatever the digest's algorithm."""
    content = TAGGED_BY_PARAMETER[algorithm]
    push_blobs(http, content)
    for digest, raw in content.manifests.items():
        tags = [tag for tag, named in content.tags.items() if named == digest]
        answer = push_manifest(http, raw, str(digest), digest, *tags)
        assert answer.headers["oci-tag"].split(", ") == tags
    assert_listed(http, content)
    assert_pulled(http, content)
    delete_all(http, content)


def test_one_after_the_other(http: httpx.Client) -> None:
    """What one walk deleted, the next one pushes again: blobs that several kinds share."""
    for name in ("artifact", "artifact without layers", "artifacts with subject", "artifact"):
        content = DATA_SETS[name]
        push_blobs(http, content)
        for digest, raw in content.manifests.items():
            push_manifest(http, raw, str(digest), digest)
        assert_pulled(http, Content(blobs=content.blobs, manifests=content.manifests))
        delete_all(http, Content(blobs=content.blobs, manifests=content.manifests))
