"""A forward proxy on loopback: absolute-form requests and CONNECT, and a record of both."""

import base64
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive", "host"})


@dataclass
class Passed:
    """One request that reached the proxy: a method, its target as it was written, and its headers."""

    method: str
    target: str
    headers: dict[str, str]


@dataclass
class ForwardProxy:
    """What the proxy knows: where names lead to, whom it lets through, and what has passed.

    `names` has `host:port` as clients write it, and the port of loopback behind it; `login` is
    `user:password`.
    """

    names: dict[str, int] = field(default_factory=dict)
    login: str | None = None
    refusal: int | None = None
    passed: list[Passed] = field(default_factory=list)
    address: str = ""

    @property
    def url(self) -> str:
        """What goes into `HTTP_PROXY`."""
        return f"http://{self.address}"

    def logged_in_as(self, user_and_password: str) -> str:
        """The same with a user and a password."""
        return f"http://{user_and_password}@{self.address}"


@contextmanager
def forward_proxy(names: Mapping[str, int] | None = None) -> Iterator[ForwardProxy]:
    """A running one on a free port."""
    proxy = ForwardProxy(dict(names or {}))

    class Handler(_Handler):
        state = proxy

    server = _Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Clients go away in the middle."""


class _Handler(BaseHTTPRequestHandler):
    state: ForwardProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_CONNECT(self) -> None:
        """A tunnel to the name that is asked for."""
        port = self._let_through(self.path)
        if port is None:
            return
        with socket.create_connection(("127.0.0.1", port)) as behind:
            self.send_response(200)
            self.end_headers()
            _relay(self.connection, behind)
        self.close_connection = True

    def _forward(self) -> None:
        """The request, passed on in origin form without what is between client and proxy."""
        parts = urlsplit(self.path)
        port = self._let_through(parts.netloc)
        if port is None:
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {key: value for key, value in self.headers.items() if key.lower() not in _HOP_BY_HOP}
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        behind = HTTPConnection("127.0.0.1", port)
        behind.request(self.command, path, body or None, {**headers, "Host": parts.netloc})
        answer = behind.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in {"connection", "transfer-encoding"}:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)
        behind.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _forward

    def _let_through(self, target: str) -> int | None:
        """The port behind `target`; None when the answer was a refusal."""
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.state.passed.append(Passed(self.command, self.path, headers))
        wanted = self.state.login and "Basic " + base64.b64encode(self.state.login.encode()).decode()
        if wanted and headers.get("proxy-authorization") != wanted:
            refusal: int | None = 407
        elif target not in self.state.names:
            refusal = 403
        else:
            refusal = self.state.refusal
        if refusal is None:
            return self.state.names[target]
        self._refuse(refusal)
        return None

    def _refuse(self, status: int) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Bytes in both directions until either side is done."""
    ends = {one: other, other: one}
    while True:
        for ready in select.select([one, other], [], [])[0]:
            piece = ready.recv(1 << 16)
            if not piece:
                return
            ends[ready].sendall(piece)
