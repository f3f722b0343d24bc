"""A registry that misbehaves on purpose: real sockets, and one knob for each fault."""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from qwenctl.oci.descriptor import OCI_MANIFEST
from qwenctl.oci.digest import Digest
from qwenctl.oci.protocol import ByteRange, RangeNotSatisfiable, parse_range


@dataclass
class Faults:
    """What goes wrong. Counts say how often; they go down as they are used up."""

    ignore_range: bool = False
    wrong_range: bool = False
    refuse_range: bool = False
    drop_after: int | None = None
    drops: int = 0
    short_by: int = 0
    flip: bool = False
    statuses: list[int] = field(default_factory=list)
    retry_after: str | None = None
    no_digest_header: bool = False
    lying_digest: str | None = None
    head_not_allowed: bool = False
    redirect_blobs: str | None = None
    basic: str | None = None
    bearer: bool = False
    token_seconds: int = 60
    put_limit: int | None = None
    absolute_location: bool = False
    location_query: str = ""
    lose_chunk: bool = False
    more_headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


class FaultyRegistry:
    """Content by path, what was asked, and the faults."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], bytes] = {}
        self.uploads: dict[str, bytearray] = {}
        self.seen: list[Seen] = []
        self.tokens: dict[str, float] = {}
        self.address = ""

    def add(self, raw: bytes) -> str:
        """Make content a blob; its digest."""
        digest = str(Digest.of(raw))
        self.blobs[digest] = raw
        return digest

    def requests(self, method: str, part: str = "") -> list[Seen]:
        """The requests of a method whose path contains `part`."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]


@contextmanager
def faulty_registry() -> Iterator[FaultyRegistry]:
    """A running one on a free port."""
    registry = FaultyRegistry()

    class Handler(_Handler):
        state = registry

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients go away in the middle here; that is what is tested."""


class _Handler(BaseHTTPRequestHandler):
    state: FaultyRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _handle(self) -> None:
        body = self._body()
        self.state.seen.append(Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        path = urlsplit(self.path).path
        if path == "/token":
            return self._token()
        if path == "/v2/":
            return self._answer(200)
        if self.state.faults.statuses:
            status = self.state.faults.statuses.pop(0)
            after = self.state.faults.retry_after
            return self._answer(status, b"busy", {"Retry-After": after} if after else {})
        if not self._authorized():
            return None
        match = re.fullmatch(r"/v2/(.+)/(blobs/uploads|blobs|manifests|tags)/(.*)", path)
        assert match, path
        kind, rest = match[2], match[3]
        if kind == "tags":
            return self._tags(match[1])
        if kind == "manifests":
            return self._manifest(match[1], rest, body)
        return self._upload(match[1], rest, body) if kind == "blobs/uploads" else self._blob(rest)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            pieces = b""
            while size := int(self.rfile.readline(), 16):
                pieces += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return pieces
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), **self.state.faults.more_headers}.items():
            self.send_header(key, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _authorized(self) -> bool:
        faults, given = self.state.faults, self.headers.get("Authorization", "")
        if faults.basic is not None:
            if given == "Basic " + base64.b64encode(faults.basic.encode()).decode():
                return True
            self._answer(401, headers={"WWW-Authenticate": 'Basic realm="test, or so"'})
            return False
        if faults.bearer:
            if self.state.tokens.get(given.removeprefix("Bearer "), 0) > time.monotonic():
                return True
            realm = f"http://{self.state.address}/token"
            challenge = f'Bearer realm="{realm}",service="test",scope="repository:me/model:pull"'
            self._answer(401, headers={"WWW-Authenticate": challenge})
            return False
        return True

    def _token(self) -> None:
        token = f"token{len(self.state.tokens)}"
        self.state.tokens[token] = time.monotonic() + self.state.faults.token_seconds
        document = {"token": token, "expires_in": self.state.faults.token_seconds}
        self._answer(200, json.dumps(document).encode())

    def _blob(self, digest: str) -> None:
        faults, raw = self.state.faults, self.state.blobs.get(digest)
        if faults.redirect_blobs and self.command == "GET":
            return self._answer(
                307, headers={"Location": f"{faults.redirect_blobs}{self.path}?signed=secret"}
            )
        if raw is None:
            return self._answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN"}]}')
        if faults.flip:
            raw = bytes([raw[0] ^ 1]) + raw[1:]
        try:
            part = None if faults.ignore_range else parse_range(self.headers.get("Range"), len(raw))
        except RangeNotSatisfiable:
            return self._answer(416)
        if part and faults.refuse_range:
            return self._answer(416)
        if part is None:
            return self._send(200, raw, {})
        shown = ByteRange(part.first + 1, part.last, part.total) if faults.wrong_range else part
        return self._send(206, raw[part.first : part.last + 1], {"Content-Range": shown.render()})

    def _send(self, status: int, raw: bytes, headers: dict[str, str]) -> None:
        faults = self.state.faults
        if faults.short_by and self.command == "GET":
            raw = raw[: max(0, len(raw) - faults.short_by)]
        if faults.drop_after is None or faults.drops <= 0 or self.command == "HEAD":
            return self._answer(status, raw, headers)
        faults.drops -= 1
        self._answer(status, raw[: faults.drop_after], {**headers, "Content-Length": str(len(raw))})
        self.close_connection = True

    def _manifest(self, name: str, version: str, body: bytes) -> None:
        faults = self.state.faults
        if self.command == "PUT":
            self.state.manifests[name, version] = body
            self.state.manifests[name, str(Digest.of(body))] = body
            return self._answer(201)
        if self.command == "HEAD" and faults.head_not_allowed:
            return self._answer(405)
        raw = self.state.manifests.get((name, version))
        if raw is None:
            return self._answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN"}]}')
        headers = {"Content-Type": OCI_MANIFEST}
        if not faults.no_digest_header:
            headers["Docker-Content-Digest"] = faults.lying_digest or str(Digest.of(raw))
        return self._answer(200, raw, headers)

    def _upload(self, name: str, upload: str, body: bytes) -> None:
        faults, query = self.state.faults, parse_qs(urlsplit(self.path).query)
        if self.command == "POST":
            mounted = query.get("mount", [""])[0]
            if mounted and mounted in self.state.blobs:
                return self._answer(201)
            upload = f"u{len(self.state.uploads)}"
            self.state.uploads[upload] = bytearray()
        if self.command == "DELETE":
            self.state.uploads.pop(upload, None)
            return self._answer(204)
        if self.command == "PUT" and faults.put_limit is not None and len(body) > faults.put_limit:
            return self._answer(413)
        if not (faults.lose_chunk and self.command == "PATCH"):
            self.state.uploads[upload] += body
        stored = bytes(self.state.uploads[upload])
        if self.command == "PUT":
            if query["digest"][0] != str(Digest.of(stored)):
                return self._answer(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}')
            self.state.blobs[query["digest"][0]] = stored
            return self._answer(201)
        base = f"http://{self.state.address}" if faults.absolute_location else ""
        location = f"{base}/v2/{name}/blobs/uploads/{upload}{faults.location_query}"
        return self._answer(202, headers={"Location": location, "Range": f"0-{max(0, len(stored) - 1)}"})

    def _tags(self, name: str) -> None:
        tags = sorted(v for n, v in self.state.manifests if n == name and ":" not in v)
        if not tags:
            return self._answer(404)
        last = parse_qs(urlsplit(self.path).query).get("last", [""])[0]
        page = [tag for tag in tags if tag > last][:2]
        link = {"Link": f'</v2/{name}/tags/list?last={page[-1]}>; rel="next"'} if page[-1] != tags[-1] else {}
        return self._answer(200, json.dumps({"tags": page}).encode(), link)
