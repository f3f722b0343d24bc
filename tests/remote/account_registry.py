"""A registry with accounts, perhaps a token server: real sockets that remember who showed what to whom."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class Account:
    """One request that arrived: what was shown, and where."""

    method: str
    path: str
    authorization: str
    body: bytes


@dataclass
class AccountRegistry:
    """What it wants, and what it saw. `scheme` is `basic`, `bearer`, or empty: it wants no accounts."""

    scheme: str = "basic"
    users: dict[str, str] = field(default_factory=lambda: {"me": "pa:ss"})
    identity_tokens: set[str] = field(default_factory=set)
    bearer_tokens: set[str] = field(default_factory=set)
    realm: str = ""
    redirect: str = ""
    upload_at: str = ""
    moved_to: str = ""
    echo: bool = False
    statuses: list[int] = field(default_factory=list)
    address: str = ""
    seen: list[Account] = field(default_factory=list)

    def requested(self, part: str) -> list[Account]:
        """The requests whose path contains `part`."""
        return [seen for seen in self.seen if part in seen.path]

    @property
    def shown(self) -> set[str]:
        """Everything that came as `Authorization` or in a body."""
        return {part for seen in self.seen for part in (seen.authorization, seen.body.decode()) if part}


@contextmanager
def account_registry(**knobs: Any) -> Iterator[AccountRegistry]:
    """A running one on a free port of loopback."""
    registry = AccountRegistry(**knobs)

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


def basic(user: str, secret: str) -> str:
    """The header that shows a user and a password."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that leaves without reading an answer is nobody's mistake."""


class _Handler(BaseHTTPRequestHandler):
    state: AccountRegistry
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def _handle(self) -> None:
        state, given = self.state, self.headers.get("Authorization", "")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state.seen.append(Account(self.command, self.path, given, body))
        path = urlsplit(self.path).path
        if state.statuses:
            return self._answer(state.statuses.pop(0), b"not now")
        if path == "/token":
            return self._token(given, body)
        if path == "/moved":
            return self._answer(307, headers={"Location": state.moved_to})
        if state.redirect:
            return self._answer(307, headers={"Location": f"{state.redirect}{self.path}"})
        if not self._known(given):
            return self._refuse(given)
        if path == "/v2/":
            return self._answer(200, b"{}")
        if self.command == "POST":
            where = state.upload_at or f"http://{state.address}"
            return self._answer(202, headers={"Location": f"{where}/v2/me/model/blobs/uploads/1"})
        return self._answer(201 if self.command == "PUT" else 404)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle

    def _known(self, given: str) -> bool:
        if self.state.scheme == "basic":
            return given in {basic(*pair) for pair in self.state.users.items()}
        nobody = given.endswith("nobody") and urlsplit(self.path).path != "/v2/"  # as Docker Hub has it
        token = given.removeprefix("Bearer ")
        return not self.state.scheme or (token in self.state.bearer_tokens and not nobody)

    def _refuse(self, given: str) -> None:
        realm = self.state.realm or f"http://{self.state.address}/token"
        challenge = 'Basic realm="here"' if self.state.scheme == "basic" else f'Bearer realm="{realm}"'
        said = f"bad {given} {self._decoded(given)}" if self.state.echo else "incorrect"
        document = {"errors": [{"code": "UNAUTHORIZED", "message": said}]}
        return self._answer(401, json.dumps(document).encode(), {"WWW-Authenticate": challenge})

    def _decoded(self, given: str) -> str:
        return base64.b64decode(given.removeprefix("Basic ")).decode() if given.startswith("Basic ") else ""

    def _token(self, given: str, body: bytes) -> None:
        if self.command == "POST":
            allowed = parse_qs(body.decode()).get("refresh_token", [""])[0] in self.state.identity_tokens
        else:
            allowed = not given or given in {basic(*pair) for pair in self.state.users.items()}
        if not allowed:
            return self._answer(401, b"{}")
        token = f"token-{len(self.state.bearer_tokens)}-{'me' if given or body else 'nobody'}"
        self.state.bearer_tokens.add(token)
        return self._answer(200, json.dumps({"token": token}).encode())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
