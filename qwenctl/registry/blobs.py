"""The end-points of content: fetch, delete, upload, mount.

Source: distribution-spec v1.1.1, "Pulling blobs", "Pushing blobs", "Deleting Blobs"; RFC 9110 section 14.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import FileIO
from typing import Final, get_args

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Algorithm, Digest
from qwenctl.oci.protocol import (
    CONTENT_DIGEST,
    UPLOAD_ID,
    ByteRange,
    ErrorCode,
    RangeNotSatisfiable,
    blob_path,
    parse_range,
)
from qwenctl.oci.reference import is_repository
from qwenctl.oci.target import PIECE, Reader
from qwenctl.registry.answers import Refusal, parse_digest
from qwenctl.registry.shelf import Placed, Shelf
from qwenctl.registry.uploads import Upload, Uploads, fits

_OCTETS: Final = "application/octet-stream"


class Blobs:
    """The handlers. `name` is the repository in the path."""

    def __init__(self, shelf: Shelf, uploads: Uploads) -> None:
        self._shelf = shelf
        self._uploads = uploads

    async def blob(self, request: Request, name: str, digest_text: str) -> Response:
        """GET, HEAD and DELETE of one blob."""
        digest = parse_digest(digest_text)
        if request.method == "DELETE":
            if not await run_in_threadpool(self._shelf.delete_blob, name, digest):
                raise Refusal(404, ErrorCode.BLOB_UNKNOWN, f"no blob `{digest}`")
            return Response(status_code=202)
        if request.method not in ("GET", "HEAD"):
            raise Refusal(405, ErrorCode.UNSUPPORTED, f"`{request.method}` on a blob")
        placed = await run_in_threadpool(self._shelf.blob, name, digest)
        if placed is None:
            raise Refusal(404, ErrorCode.BLOB_UNKNOWN, f"no blob `{digest}`")
        return _serve(request, placed)

    async def start(self, request: Request, name: str) -> Response:
        """POST: mount, upload whole, or begin a session."""
        if request.method != "POST":
            raise Refusal(405, ErrorCode.UNSUPPORTED, f"`{request.method}` on uploads")
        query = request.query_params
        if "mount" in query:
            digest = parse_digest(query["mount"])
            if await run_in_threadpool(self._mount, name, digest, query.get("from")):
                return _created(name, digest)
        _check_algorithm(query.get("digest-algorithm", "sha256"))
        whole = parse_digest(query["digest"]) if "digest" in query else None
        upload = await run_in_threadpool(self._uploads.start, name)
        if whole is None:
            return _accepted(upload)
        try:
            await self._receive(request, upload)
            return await self._finish(name, upload, whole)
        except BaseException:  # nobody knows its location
            self._uploads.drop(upload)
            raise

    async def session(self, request: Request, name: str, upload_id: str) -> Response:
        """GET, PATCH, PUT and DELETE of an upload session."""
        upload = self._uploads.get(name, upload_id)
        if request.method in ("GET", "HEAD"):
            return Response(status_code=204, headers=_session_headers(upload))
        if request.method not in ("PATCH", "PUT", "DELETE"):
            raise Refusal(405, ErrorCode.UNSUPPORTED, f"`{request.method}` on an upload")
        if not upload.lock.acquire(blocking=False):
            raise Refusal(409, ErrorCode.BLOB_UPLOAD_INVALID, "another request writes to this upload")
        try:
            return await self._advance(request, name, upload)
        finally:
            upload.lock.release()

    async def _advance(self, request: Request, name: str, upload: Upload) -> Response:
        if request.method == "DELETE":
            await run_in_threadpool(self._uploads.drop, upload)
            return Response(status_code=204)
        closing = parse_digest(request.query_params.get("digest", "")) if request.method == "PUT" else None
        await self._receive(request, upload)
        if closing is None:
            return _accepted(upload)
        return await self._finish(name, upload, closing)

    async def _receive(self, request: Request, upload: Upload) -> None:
        length = request.headers.get("content-length")
        size = int(length) if length is not None and length.isdecimal() else None
        if not fits(upload.offset, request.headers.get("content-range"), size):
            raise Refusal(416, ErrorCode.BLOB_UPLOAD_INVALID, "out of order", _session_headers(upload))
        with self._uploads.opened(upload) as file:
            try:
                await self._append_all(request, upload, file)
            except ClientDisconnect as error:
                raise Refusal(400, ErrorCode.BLOB_UPLOAD_INVALID, "the client went away") from error

    async def _append_all(self, request: Request, upload: Upload, file: FileIO) -> None:
        """Bytes in pieces of a MiB: one hop to a thread for many small reads of the socket."""
        waiting = bytearray()
        try:
            async for chunk in request.stream():
                waiting += chunk
                if len(waiting) >= PIECE:
                    piece, waiting = waiting, bytearray()
                    await run_in_threadpool(self._uploads.append, upload, file, piece)
        finally:  # what came before a break is kept
            if waiting:
                await run_in_threadpool(self._uploads.append, upload, file, waiting)

    async def _finish(self, name: str, upload: Upload, digest: Digest) -> Response:
        await run_in_threadpool(self._uploads.finish, upload, digest)
        await run_in_threadpool(self._shelf.add_blob, name, digest)
        return _created(name, digest)

    def _mount(self, name: str, digest: Digest, source: str | None) -> bool:
        """Whether a blob is in `source` (or anywhere: the server has one owner) and now in `name` too."""
        if source is not None and not is_repository(source):
            return False
        placed = self._shelf.blob(source or "", digest)
        if placed is None:
            return False
        self._shelf.bring((placed.descriptor,))
        self._shelf.add_blob(name, digest)
        return True


def _serve(request: Request, placed: Placed) -> Response:
    descriptor = placed.descriptor
    headers = {
        CONTENT_DIGEST: str(descriptor.digest),
        "Accept-Ranges": "bytes",
        "ETag": f'"{descriptor.digest}"',
        "Cache-Control": "max-age=31536000, immutable",
    }
    wanted = _wanted(request, descriptor) if request.method == "GET" else None
    length = wanted.length if wanted else descriptor.size
    headers["Content-Length"] = str(length)
    if wanted:
        headers["Content-Range"] = wanted.render()
    status = 206 if wanted else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=_OCTETS)
    reader = placed.store.fetch(descriptor, wanted.first if wanted else 0)
    return _BlobResponse(_pieces(reader, length), status, headers, _OCTETS)


class _BlobResponse(StreamingResponse):
    """Closes its pieces at once when the client goes; a plain one leaves them to the garbage collector."""

    def __init__(
        self, pieces: AsyncGenerator[bytes], status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


def _wanted(request: Request, descriptor: Descriptor) -> ByteRange | None:
    condition = request.headers.get("if-range")
    if condition is not None and condition != f'"{descriptor.digest}"':
        return None
    try:
        return parse_range(request.headers.get("range"), descriptor.size)
    except RangeNotSatisfiable as error:
        headers = {"Content-Range": f"bytes */{descriptor.size}"}
        raise Refusal(416, ErrorCode.SIZE_INVALID, "no such bytes", headers) from error


async def _pieces(reader: Reader, length: int) -> AsyncGenerator[bytes]:
    """`length` bytes in pieces of a MiB; a thread reads the next one while the last one is sent.

    The reader is closed also when the client goes, but not before that thread has left it: the number of a
    closed file may be another file's by then.
    """
    loop, buffer = asyncio.get_running_loop(), memoryview(bytearray(PIECE))

    def read(wanted: int) -> bytes:
        return bytes(buffer[: reader.readinto(buffer[:wanted])])

    ahead = loop.run_in_executor(None, read, min(PIECE, length))
    try:
        while piece := await asyncio.shield(ahead):
            length -= len(piece)
            ahead = loop.run_in_executor(None, read, min(PIECE, length))
            yield piece
    finally:
        if ahead.done():
            reader.close()
        else:
            ahead.add_done_callback(lambda _: reader.close())


def _created(name: str, digest: Digest) -> Response:
    headers = {"Location": blob_path(name, str(digest)), CONTENT_DIGEST: str(digest)}
    return Response(status_code=201, headers=headers)


def _accepted(upload: Upload) -> Response:
    return Response(status_code=202, headers=_session_headers(upload))


def _session_headers(upload: Upload) -> dict[str, str]:
    return {"Location": upload.location, UPLOAD_ID: upload.id, "Range": upload.range}


def _check_algorithm(text: str) -> None:
    if text not in get_args(Algorithm):
        raise Refusal(400, ErrorCode.DIGEST_INVALID, f"`{text[:200]}` is not an algorithm that we know")
