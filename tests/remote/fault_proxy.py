"""A proxy in front of a real registry that breaks HTTP on purpose, one fault at a time.

Raw sockets and a thread for each connection, so that it can say what no HTTP library would. Rules choose the
requests; `faults.py` has what can happen to them. Everything that arrives is recorded. Several connections
may be served at once.
"""

import http.client
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from itertools import count
from typing import Final

from tests.remote.fault_messages import LONGEST_LINE, Answer, Kind, Request, read_body, read_head

_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding"})
_BODILESS: Final = frozenset({204, 304})
FINDS_END_SECONDS: Final = 30.0
"""How long an upstream may take, and a client that was stalled for ever may stay."""


@dataclass(slots=True)
class Seen:
    """One request that arrived, and what became of it. `sent_bytes` counts the body alone."""

    method: str
    path: str
    range: str | None
    authorized: bool
    connection: int
    status: int = 0
    sent_bytes: int = 0
    faulted: bool = False


class Exchange:
    """One request and its connection, in the hands of a fault. `turn` counts the rule's uses from 1."""

    def __init__(
        self, proxy: "FaultProxy", line: socket.socket, reader: BufferedReader, request: Request, seen: Seen
    ) -> None:
        self.proxy, self.request, self.seen = proxy, request, seen
        self.turn = 1
        self.over = False
        self._line, self._reader = line, reader
        self._body: bytes | None = None

    def serve(self) -> None:
        """What happens without a fault."""
        self.send(self.answer())

    def answer(self) -> Answer:
        """What would be sent without a fault: a token, a challenge, else the registry's own answer."""
        self.body()
        if self.request.kind is Kind.TOKEN:
            return self.proxy.issue_token()
        if not self.proxy.admits(self.request):
            return self.proxy.challenge()
        return self.forward()

    def forward(self, path: str | None = None, body: bytes | None = None, **headers: str | None) -> Answer:
        """The registry's answer, perhaps to another path, body or headers (`range=None` takes one away)."""
        changed = {key.replace("_", "-"): text for key, text in headers.items()}
        wanted = {
            key: text
            for key, text in {**self.request.headers, **changed}.items()
            if text is not None and key not in _HOP_BY_HOP and key != "content-length"
        }
        wanted["x-forwarded-proto"] = self.proxy.scheme
        content = self.body() if body is None else body
        return self.proxy.ask(self.request.method, path or self.request.path, content, wanted)

    def body(self) -> bytes:
        """The body of the request, read once."""
        if self._body is None:
            self._body = read_body(self._reader, self.request)
        return self._body

    def read_some(self, length: int) -> None:
        """Take `length` bytes of the request's body and no more."""
        self._reader.read(length)

    def send(self, answer: Answer) -> None:
        """An answer as it is, the connection kept."""
        self.send_head(answer)
        if self.request.method != "HEAD":
            self.send_body(answer.body)

    def send_head(self, answer: Answer) -> None:
        """Status line and headers."""
        self.seen.status = answer.status
        self._line.sendall(answer.head())

    def send_body(self, piece: bytes) -> None:
        """Bytes of the body, counted."""
        for first in range(0, len(piece), LONGEST_LINE):
            part = piece[first : first + LONGEST_LINE]
            self._line.sendall(part)
            self.seen.sent_bytes += len(part)

    def send_raw(self, piece: bytes) -> None:
        """Bytes that are no body."""
        self._line.sendall(piece)

    def end(self) -> None:
        """Close the connection: everything sent arrives, and then the end."""
        self.over = True
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Abort the connection: TCP RST, and what was sent may be lost."""
        self.over = True
        self._line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reader.close()
        self._line.close()

    def stall(self) -> None:
        """Say nothing more until the client goes away."""
        self.over = True
        with suppress(OSError):
            self._line.settimeout(FINDS_END_SECONDS)
            while self._line.recv(LONGEST_LINE):
                pass


Fault = Callable[[Exchange], None]
"""Does something to one exchange; several threads may be in one fault at the same time."""


@dataclass(slots=True)
class Rule:
    """Which requests meet `fault`: from the `first` match on, `times` of them, for ever when None."""

    fault: Fault
    kind: Kind | None = None
    methods: frozenset[str] = frozenset({"GET"})
    part: str = ""
    ranged: bool | None = None
    first: int = 1
    times: int | None = None
    matches: int = 0

    def take(self, request: Request) -> int | None:
        """Which use of the rule this request is, from 1; None when it is none. Under the proxy's lock."""
        if request.method not in self.methods or (self.kind and request.kind is not self.kind):
            return None
        if self.part not in request.path or self.ranged not in (None, request.range is not None):
            return None
        self.matches += 1
        turn = self.matches - self.first + 1
        return turn if turn >= 1 and (self.times is None or turn <= self.times) else None


class FaultProxy:
    """A running proxy; `base` is its origin. Closed, it drops all connections.

    With `tokens` it is a registry that wants a Bearer token and has a token server. More than `limit`
    requests mean that a client does not stop: it is refused from then on, and `endless` says so.
    """

    def __init__(
        self, upstream: str, *, tls: ssl.SSLContext | None = None, tokens: bool = False, limit: int = 40
    ) -> None:
        self.upstream, self._tls, self._wants_token, self._limit = upstream, tls, tokens, limit
        self.rules: list[Rule] = []
        self.seen: list[Seen] = []
        self.elsewhere: FaultProxy | None = None
        self.endless = False
        self.numbers = count(1)
        self._tokens: set[str] = set()
        self._signatures: set[str] = set()
        self._lock = threading.Lock()
        self._lines: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._down, self._refusing = threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    @property
    def scheme(self) -> str:
        """Of its origin."""
        return "https" if self._tls else "http"

    @property
    def base(self) -> str:
        """Its origin."""
        return f"{self.scheme}://{self.address}"

    def go_down(self) -> None:
        """From now on connections are refused, by the system, and requests on old ones meet a reset."""
        self._down.set()
        with suppress(OSError):  # wakes the thread that accepts
            socket.create_connection(("127.0.0.1", int(self.address.rpartition(":")[2])), 1).close()
        self._refusing.wait(FINDS_END_SECONDS)

    def close(self) -> None:
        """Drop everything, and wait for the threads."""
        self.go_down()
        self._thread.join()
        with self._lock:
            lines, threads = list(self._lines), list(self._threads)
        for line in lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()

    def asked(self, *, kind: Kind | None = None, method: str = "GET", part: str = "") -> list[Seen]:
        """The recorded requests of a method whose path is of this kind and contains `part`."""
        with self._lock:
            return [
                seen
                for seen in self.seen
                if seen.method == method
                and part in seen.path
                and kind in (None, Request(method, seen.path, {}).kind)
            ]

    def admits(self, request: Request) -> bool:
        """Whether the request carries a token that is good at this moment."""
        with self._lock:
            return not self._wants_token or request.headers.get("authorization", "") in self._tokens

    def expire_tokens(self) -> None:
        """No token that was given so far is good any more."""
        with self._lock:
            self._tokens.clear()

    def is_first_use(self, signature: str) -> bool:
        """Whether a signature was never seen here; it is from now on."""
        with self._lock:
            seen = signature in self._signatures
            self._signatures.add(signature)
        return not seen

    def issue_token(self) -> Answer:
        """The token server's answer."""
        token = f"token-{next(self.numbers)}"
        with self._lock:
            self._tokens.add(f"Bearer {token}")
        return Answer(200, {"content-type": "application/json"}).holding(b'{"token": "%s"}' % token.encode())

    def challenge(self) -> Answer:
        """The 401 that tells where tokens are."""
        asked = f'Bearer realm="{self.base}/token",service="fault-proxy"'
        body = b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
        return Answer(401, {"www-authenticate": asked, "content-type": "application/json"}).holding(body)

    def ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """What the registry itself answers."""
        connection = http.client.HTTPConnection(self.upstream, timeout=FINDS_END_SECONDS)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:  # Debian's registry breaks off where it means 416
            raise ConnectionError("the registry itself broke the connection") from error
        finally:
            connection.close()
        kept = {key.lower(): text for key, text in answer.getheaders() if key.lower() not in _HOP_BY_HOP}
        if method != "HEAD" and answer.status not in _BODILESS:
            kept["content-length"] = str(len(content))
        return Answer(answer.status, kept, content)

    def _accept(self) -> None:
        for number in count(1):
            line, _ = self._listener.accept()
            if self._down.is_set():
                line.close()
                break
            thread = threading.Thread(target=self._converse, args=(line, number))
            with self._lock:
                self._threads.append(thread)
            thread.start()
        self._listener.close()
        self._refusing.set()

    def _converse(self, line: socket.socket, number: int) -> None:
        """One connection, until either side ends it."""
        with suppress(OSError, ValueError):  # clients go away in the middle; that is what is tested
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.settimeout(FINDS_END_SECONDS)
            if self._tls:
                line = self._tls.wrap_socket(line, server_side=True)
            with self._lock:
                self._lines.add(line)
            with line, line.makefile("rb") as reader:
                while (request := read_head(reader)) and self._handle(line, reader, request, number):
                    pass
        with self._lock:
            self._lines.discard(line)
        line.close()

    def _handle(self, line: socket.socket, reader: BufferedReader, request: Request, number: int) -> bool:
        """Answer one request; whether the connection goes on."""
        seen = Seen(request.method, request.path, request.range, "authorization" in request.headers, number)
        exchange = Exchange(self, line, reader, request, seen)
        if self._down.is_set():
            exchange.reset()
            return False
        with self._lock:
            self.seen.append(seen)
            self.endless = self.endless or len(self.seen) > self._limit
            met = next(((rule, turn) for rule in self.rules if (turn := rule.take(request))), None)
        if self.endless:
            exchange.reset()
            self.go_down()
            return False
        if met is None:
            exchange.serve()
        else:
            seen.faulted, exchange.turn = True, met[1]
            met[0].fault(exchange)
        return not exchange.over


@contextmanager
def fault_proxy(
    upstream: str, *rules: Rule, tls: ssl.SSLContext | None = None, tokens: bool = False
) -> Iterator[FaultProxy]:
    """A proxy in front of `upstream` (`host:port`), and a second one, its `elsewhere`, another origin."""
    proxy, other = FaultProxy(upstream, tls=tls, tokens=tokens), FaultProxy(upstream, tls=tls)
    proxy.rules += rules
    proxy.elsewhere = other
    try:
        yield proxy
    finally:
        proxy.close()
        other.close()
