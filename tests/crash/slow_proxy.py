"""A proxy in front of a registry: as slow as a line, and it knows which bytes of which blob it has sent.

    program  ⇄  SlowProxy  ⇄  registry

HTTP/1.1 as clients and registries of models speak it; one thread for each connection.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Lock, Thread

_BLOB = re.compile(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})")
_PIECE = 64 << 10
_BUFFER = 128 << 10  # bytes of a socket: what was sent should soon be read, or be lost with the reader


@dataclass
class Sent:
    """What went out of one blob: every byte, and which of them went at least once."""

    total: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)

    def add(self, first: int, end: int) -> None:
        """Bytes from `first` to before `end` went out."""
        self.total += end - first
        if self.spans and self.spans[-1][1] == first:
            first = self.spans.pop()[0]
        self.spans.append((first, end))

    @property
    def distinct(self) -> int:
        """The bytes that went at least once."""
        count, position = 0, 0
        for first, end in sorted(self.spans):
            count += max(0, end - max(first, position))
            position = max(position, end)
        return count

    @property
    def twice(self) -> int:
        """The bytes that went again."""
        return self.total - self.distinct


@dataclass(frozen=True)
class _Head:
    first: str
    headers: dict[str, str]
    raw: bytes

    @property
    def words(self) -> list[str]:
        return self.first.split(" ")


class _Line:
    """A socket that is read by heads and pieces."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._rest = bytearray()

    def read(self, limit: int) -> bytes:
        """Some bytes; none at the end."""
        if self._rest:
            piece = bytes(self._rest[:limit])
            del self._rest[:limit]
            return piece
        return self.socket.recv(limit)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with `mark`; nothing at the end."""
        while mark not in self._rest:
            piece = self.socket.recv(_PIECE)
            if not piece:
                return b""
            self._rest += piece
        end = self._rest.index(mark) + len(mark)
        raw = bytes(self._rest[:end])
        del self._rest[:end]
        return raw

    def head(self) -> _Head | None:
        """The next head; None at the end."""
        raw = self.until(b"\r\n\r\n")
        if not raw:
            return None
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return _Head(first, {name.lower(): text.strip() for name, _, text in pairs}, raw)


class SlowProxy:
    """See the module. `rate` is in bytes a second for each connection, 0 for as fast as it goes."""

    def __init__(self, listener: socket.socket, upstream: str, rate: float) -> None:
        host, port = listener.getsockname()[:2]
        self.address = f"{host}:{port}"
        self.upstream = upstream
        self.rate = rate
        self.requests: list[tuple[str, str]] = []
        self.received_bytes = 0
        self._sent: dict[str, Sent] = {}
        self._lock = Lock()
        self._listener = listener

    @property
    def of_blobs(self) -> list[tuple[str, str]]:
        """The requests for the content of blobs."""
        return [item for item in self.requests if item[0] == "GET" and _BLOB.fullmatch(item[1])]

    @property
    def body_bytes(self) -> int:
        """What went out of all blobs, every byte counted."""
        with self._lock:
            return sum(sent.total for sent in self._sent.values())

    def sent(self, digest: object) -> Sent:
        """What went out of a blob since it was forgotten."""
        with self._lock:
            return self._sent.get(str(digest), Sent())

    def forget(self, digest: object) -> None:
        """Count this blob anew."""
        with self._lock:
            self._sent.pop(str(digest), None)

    def wait_for(self, count: int, longest_seconds: float = 60) -> None:
        """Until so many bytes of blobs went out."""
        end = time.monotonic() + longest_seconds
        while self.body_bytes < count:
            assert time.monotonic() < end, f"{self.body_bytes} of {count} bytes went out"
            time.sleep(0.002)

    def wait_for_received(self, count: int, longest_seconds: float = 60) -> None:
        """Until the clients have sent so many bytes of content."""
        end = time.monotonic() + longest_seconds
        while self.received_bytes < count:
            assert time.monotonic() < end, f"{self.received_bytes} of {count} bytes came"
            time.sleep(0.002)

    def run(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        host, _, port = self.upstream.rpartition(":")
        with (
            connection,
            suppress(OSError),
            socket.create_connection((host, int(port)), timeout=60) as further,
        ):
            further.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client, registry = _Line(connection), _Line(further)
            while (request := client.head()) is not None and self._exchange(request, client, registry):
                pass

    def _exchange(self, request: _Head, client: _Line, registry: _Line) -> bool:
        """One request and its answer; whether the connection can go on."""
        method, path = request.words[0], request.words[1].partition("?")[0]
        with self._lock:
            self.requests.append((method, path))
        registry.socket.sendall(request.raw)
        for piece in self._body(request, client, bodyless="content-length" not in request.headers):
            registry.socket.sendall(piece)
            with self._lock:
                self.received_bytes += len(piece)
        answer = registry.head()
        if answer is None:
            return False
        status = answer.words[1]
        client.socket.sendall(answer.raw)
        blob = _BLOB.fullmatch(path) if method == "GET" and status in ("200", "206") else None
        position = int((re.search(r"bytes (\d+)-", answer.headers.get("content-range", "")) or [0, 0])[1])
        for piece in self._body(answer, registry, bodyless=method == "HEAD" or status in ("204", "304")):
            client.socket.sendall(piece)
            if blob:
                with self._lock:
                    self._sent.setdefault(blob[1], Sent()).add(position, position + len(piece))
                position += len(piece)
        return "close" not in (answer.headers.get("connection", ""), request.headers.get("connection", ""))

    def _body(self, head: _Head, line: _Line, *, bodyless: bool) -> Iterator[bytes]:
        """The pieces of a body, at the line's rate."""
        if "chunked" in head.headers.get("transfer-encoding", ""):
            yield from _chunks(line)
            return
        left, begun, moved = 0 if bodyless else int(head.headers.get("content-length", "0")), 0.0, 0
        while left:
            piece = line.read(min(left, _PIECE))
            if not piece:
                raise ConnectionResetError
            yield piece
            begun, moved, left = begun or time.monotonic(), moved + len(piece), left - len(piece)
            if self.rate and (ahead := begun + moved / self.rate - time.monotonic()) > 0:
                time.sleep(ahead)


def _chunks(line: _Line) -> Iterator[bytes]:
    while size := line.until(b"\r\n"):
        yield size
        left = int(size.split(b";")[0], 16) + 2
        last = left == 2
        while left and (piece := line.read(left)):
            yield piece
            left -= len(piece)
        if last:
            return


@contextmanager
def slow_proxy(upstream: str, rate: float = 0) -> Iterator[SlowProxy]:
    """A running proxy in front of `host:port`."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy = SlowProxy(listener, upstream, rate)
        thread = Thread(target=proxy.run, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
