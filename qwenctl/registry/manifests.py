"""The end-points of manifests, tags and referrers.

Source: distribution-spec v1.1.1, "Pulling manifests", "Pushing Manifests", "Listing Tags",
"Listing Referrers", "Deleting Manifests", "Deleting Tags".
"""

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from qwenctl.errors import BlobUnknown, Malformed
from qwenctl.oci.descriptor import OCI_INDEX, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import MANIFEST_LIMIT, Document, Manifest, parse_document
from qwenctl.oci.protocol import CONTENT_DIGEST, FILTERS_APPLIED, SUBJECT, ErrorCode, manifest_path
from qwenctl.oci.reference import is_tag
from qwenctl.oci.target import content_of, read_verified
from qwenctl.registry.answers import Refusal, json_response, page, parse_digest
from qwenctl.registry.shelf import Placed, Shelf

_TAG_HEADER: Final = "OCI-Tag"


class Manifests:
    """The handlers. `name` is the repository in the path, `version` a tag or a digest."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def manifest(self, request: Request, name: str, version: str) -> Response:
        """GET, HEAD, PUT and DELETE of one manifest."""
        if request.method in ("GET", "HEAD"):
            return await run_in_threadpool(self._read, name, version)
        if request.method == "PUT":
            raw = await _body(request)
            kind = request.headers.get("content-type")
            tags = request.query_params.getlist("tag")
            return await run_in_threadpool(self._write, name, version, raw, kind, tags)
        if request.method == "DELETE":
            return await run_in_threadpool(self._delete, name, version)
        raise Refusal(405, ErrorCode.UNSUPPORTED, f"`{request.method}` on a manifest")

    def tags(self, request: Request, name: str) -> Response:
        """GET of the list of tags."""
        tags = self._shelf.tags(name)
        if tags is None:
            raise Refusal(404, ErrorCode.NAME_UNKNOWN, f"no repository `{name}`")
        return page(request, tags, "tags", {"name": name})

    def catalog(self, request: Request) -> Response:
        """GET of the list of repositories, which older clients know as `_catalog`."""
        return page(request, self._shelf.repositories(), "repositories", {})

    def referrers(self, request: Request, name: str, digest_text: str) -> Response:
        """GET of the manifests whose subject is a digest; an empty index when there are none."""
        digest = parse_digest(digest_text)
        found = [_referrer(*pair) for pair in self._shelf.referrers(name, digest)]
        headers = {}
        wanted = request.query_params.get("artifactType")
        if wanted is not None:
            found = [item for item in found if item.get("artifactType") == wanted]
            headers[FILTERS_APPLIED] = "artifactType"
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return json_response(index, headers, OCI_INDEX)

    def _read(self, name: str, version: str) -> Response:
        placed = self._find(name, version)
        if placed is None:
            raise Refusal(404, ErrorCode.MANIFEST_UNKNOWN, f"no manifest `{name}:{version}`")
        raw = read_verified(placed.store, placed.descriptor)
        digest = str(placed.descriptor.digest)
        headers = {CONTENT_DIGEST: digest, "ETag": f'"{digest}"'}
        return Response(raw, 200, headers, placed.descriptor.media_type)

    def _find(self, name: str, version: str) -> Placed | None:
        if ":" in version:
            return self._shelf.manifest(name, parse_digest(version))
        return self._shelf.tagged(name, version) if is_tag(version) else None

    def _write(self, name: str, version: str, raw: bytes, kind: str | None, more: list[str]) -> Response:
        pinned = parse_digest(version) if ":" in version else None
        tags = more if pinned else [version]
        for tag in tags:
            if not is_tag(tag):
                raise Refusal(400, ErrorCode.MANIFEST_INVALID, f"`{tag[:200]}` is not a tag")
        digest = Digest.of(raw, pinned.algorithm if pinned else "sha256")
        if pinned and digest != pinned:
            raise Refusal(400, ErrorCode.DIGEST_INVALID, f"the manifest is `{digest}`, not `{pinned}`")
        document = _parse(raw, kind)
        descriptor = Descriptor(document.media_type, digest, len(raw))
        self._keep(name, descriptor, document, tags, link=pinned is not None)
        headers = {"Location": manifest_path(name, str(digest)), CONTENT_DIGEST: str(digest)}
        if document.subject is not None:
            headers[SUBJECT] = str(document.subject.digest)
        if pinned and tags:
            headers[_TAG_HEADER] = ", ".join(tags)
        return Response(status_code=201, headers=headers)

    def _keep(
        self, name: str, descriptor: Descriptor, document: Document, tags: list[str], *, link: bool
    ) -> None:
        """Store and name a manifest. What a tag named before stays, by its digest."""
        store = self._shelf.store
        try:
            with store.protect([descriptor, *document.successors]):
                self._shelf.bring(document.successors)
                store.push(descriptor, content_of(document.raw))
                if link:
                    store.link(descriptor, self._shelf.home(name))
                for tag in tags:
                    before = self._shelf.tagged(name, tag)
                    if before and before.store is store and before.descriptor.digest != descriptor.digest:
                        store.link(before.descriptor, self._shelf.home(name))
                    store.tag(descriptor, self._shelf.reference(name, tag))
            self._shelf.add_manifest(name, descriptor.digest, document)
        except BlobUnknown as error:
            raise Refusal(404, ErrorCode.MANIFEST_BLOB_UNKNOWN, error.message) from error

    def _delete(self, name: str, version: str) -> Response:
        if ":" in version:
            found = self._shelf.delete_manifest(name, parse_digest(version))
        else:
            found = is_tag(version) and self._shelf.delete_tag(name, version)
        if not found:
            raise Refusal(404, ErrorCode.MANIFEST_UNKNOWN, f"no manifest `{name}:{version}`")
        return Response(status_code=202)


async def _body(request: Request) -> bytes:
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MANIFEST_LIMIT:
            raise Refusal(413, ErrorCode.SIZE_INVALID, f"a manifest may have {MANIFEST_LIMIT} bytes")
    return bytes(raw)


def _parse(raw: bytes, kind: str | None) -> Document:
    try:
        return parse_document(raw, kind)
    except Malformed as error:
        raise Refusal(400, ErrorCode.MANIFEST_INVALID, error.message) from error


def _referrer(descriptor: Descriptor, document: Document) -> dict[str, Any]:
    """The descriptor in a list of referrers: with annotations, and a type for images that state none."""
    row: dict[str, Any] = {
        "mediaType": document.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    kind = document.artifact_type
    if kind is None and isinstance(document, Manifest):
        kind = document.config.media_type
    if kind:
        row["artifactType"] = kind
    if document.annotations:
        row["annotations"] = dict(document.annotations)
    return row
