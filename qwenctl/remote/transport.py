"""One request, one response: the only module that knows the HTTP library.

Redirects are not followed here (`client` does, and drops credentials when the origin changes), bodies are
streamed in both directions, and every error of the library becomes one of ours.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from qwenctl import __version__
from qwenctl.errors import ConnectionBroken, InvalidSettings, RemoteError, Unreachable
from qwenctl.oci.target import PIECE, Closing, Reader
from qwenctl.remote.body import FLUSH_SECONDS, LEAST_BYTES, DirectBody, take_over
from qwenctl.remote.routes import Networks, Route, environment_proxies
from qwenctl.remote.trust import tls_failure, trusted

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 30.0
"""Silence of this length counts as a broken connection."""
BODY_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of an answer that is read whole and is no manifest: tokens, errors, lists."""

_FORBIDDEN: Final = 403
_PROXY_WANTS_LOGIN: Final = 407
_API_VERSION: Final = "docker-distribution-api-version"  # on every answer of most registries

CRAWL_SECONDS: Final = 60.0
CRAWL_BYTES: Final = 64 << 10
"""Less than this in that time counts as a broken connection, too."""

Headers = Mapping[str, str]
Body = bytes | Callable[[], Reader]
"""What is sent: bytes, or a function that opens the content anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `length` is the size of a body that is opened.

    `repeatable` says that the request may be made twice, though it changes something.
    """

    method: str
    url: str
    headers: Headers = field(default_factory=dict, repr=False)
    body: Body | None = field(default=None, repr=False)
    length: int = 0
    repeatable: bool = False


class Response(Closing):
    """What came back. The caller closes it; closing in the middle drops the connection."""

    def __init__(self, url: str, status: int, headers: Headers, response: "httpx.Response") -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self._response = response
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._broken: Exception | None = None
        self._direct: DirectBody | None = None
        self._kept: bytes | None = None
        self._received = 0
        self._seen: tuple[float, int] | None = None
        self.attempts = 1
        self.now: Callable[[], float] = time.monotonic

    @property
    def length(self) -> int | None:
        """Bytes of the body as it was announced; None when it was not."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isdecimal() and len(text) < 20 else None

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`. What came before the connection broke is given first, the error after that.

        A slow line's bytes are given on now and then, though the buffer is not full.

        Raises: ConnectionBroken, also when next to nothing came for a minute.
        """
        self._check_speed()
        filled, end = 0, time.monotonic() + FLUSH_SECONDS
        while filled < len(buffer):
            if not self._rest and self._direct is not None:
                filled = filled or self._read_direct(buffer)
                break
            if not self._rest and not self._next(raising=not filled):
                break
            count = min(len(self._rest), len(buffer) - filled)
            buffer[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
            if time.monotonic() > end:
                break
        self._received += filled
        return filled

    def keep(self, limit: int) -> None:
        """Read the body now, at most `limit` bytes of it; `read` gives it later. Raises: ConnectionBroken."""
        self._kept = self.read(limit)

    def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The body, at most `limit` bytes of it, and the end of this response. Raises: ConnectionBroken."""
        if self._kept is not None:
            return self._kept[:limit]
        pieces = bytearray()
        buffer = memoryview(bytearray(min(PIECE, limit)))
        with self:
            while len(pieces) < limit and (count := self.readinto(buffer)):
                pieces += buffer[:count]
        return bytes(pieces[:limit])

    def close(self) -> None:
        """Release the connection; another thread that reads from it wakes up with an error."""
        if self._direct is not None:
            self._direct.close()
        self._response.close()

    def _check_speed(self) -> None:
        now = self.now()
        if self._seen is None:
            self._seen = (now, self._received)
        if now - self._seen[0] < CRAWL_SECONDS:
            return
        crawls = self._received - self._seen[1] < CRAWL_BYTES
        self._seen = (now, self._received)
        if crawls:
            raise ConnectionBroken(
                f"`{origin(self.url)}` sends next to nothing", hint="try again; what was received is kept"
            )

    def _next(self, *, raising: bool) -> bool:
        """Whether there is another piece; an error waits until it may be raised."""
        begun = self._pieces is not None
        if self._pieces is None:
            self._pieces = self._response.iter_raw()
        if self._broken is None:
            try:
                piece = next(self._pieces, b"")
            except _library_errors() as error:
                self._broken = error
            else:
                self._rest = memoryview(piece)
                if piece and not begun:
                    self._direct = self._take_over(len(piece))
                return bool(piece)
        if raising:
            raise translate(self._broken, self.url) from self._broken
        return False

    def _take_over(self, received: int) -> DirectBody | None:
        """The rest of a large body without the library, when its first piece emptied the library's hands."""
        left = (self.length or 0) - received
        encoded = "content-encoding" in self.headers or "transfer-encoding" in self.headers
        if left < LEAST_BYTES or encoded or self._response.http_version != "HTTP/1.1":
            return None
        timeouts = self._response.request.extensions.get("timeout", {})
        return take_over(
            self._response.extensions.get("network_stream"),
            secure=self.url.startswith("https:"),
            length=left,
            silence_seconds=timeouts.get("read") or READ_SECONDS,
        )

    def _read_direct(self, buffer: memoryview) -> int:
        assert self._direct is not None
        try:
            return self._direct.readinto(buffer)
        except TimeoutError as error:
            message = f"`{origin(self.url)}` stopped answering"
            raise ConnectionBroken(message, hint="try again; what was received is kept") from error
        except OSError as error:
            raise ConnectionBroken(
                f"the connection to `{origin(self.url)}` broke: {error}",
                hint="try again; what was received is kept",
            ) from error


class Transport:
    """Connections, kept between requests. Any thread may send; the caller closes it.

    `networks` says through which proxy an address is reached and what proves a server; without it the
    environment's proxies count and every certificate is verified. Each is looked at when it is first needed.
    """

    def __init__(
        self,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        networks: Networks | None = None,
    ) -> None:
        self._networks = networks or Networks(environment_proxies())
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._clients: dict[Route, httpx.Client] = {}
        self._lock = Lock()

    def send(self, request: Request) -> Response:
        """The answer to `request`, its body not yet read.

        Raises: Unreachable; InvalidSettings, FileMissing and AccessDenied for a proxy or a CA bundle that
        cannot be used.
        """
        route = self._networks.route(request.url)
        headers, body = dict(request.headers), request.body
        content: bytes | Iterator[bytes] | None = None
        if isinstance(body, bytes):
            content = body
        elif body is not None:
            headers["Content-Length"] = str(request.length)
            content = _pieces(body())
        try:
            client = self._client(route)
            sent = client.build_request(request.method, request.url, headers=headers, content=content)
            response = client.send(sent, stream=True)
        except _library_errors() as error:
            raise translate(error, request.url, route.proxy) from error
        if route.proxy is not None and _is_proxys(response):
            response.close()
            said = f"{response.status_code} {response.reason_phrase}"
            raise _proxy_refusal(request.url, route.proxy, said)
        lowered = {key.lower(): value for key, value in response.headers.multi_items()}
        lowered["www-authenticate"] = ", ".join(response.headers.get_list("www-authenticate"))
        return Response(request.url, response.status_code, lowered, response)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()

    def _client(self, route: Route) -> "httpx.Client":
        """The connections of a route, made when they are first needed."""
        import httpx

        with self._lock:
            if route not in self._clients:
                self._clients[route] = httpx.Client(
                    timeout=httpx.Timeout(self._read_seconds, connect=self._connect_seconds),
                    headers={"User-Agent": f"qwenctl/{__version__}", "Accept-Encoding": "identity"},
                    follow_redirects=False,
                    trust_env=False,
                    proxy=None if route.proxy is None else self._proxy(route.proxy),
                    # plain HTTP needs no certificates, and reading them takes 20 ms
                    verify=route.proof == "certificate" and trusted(self._networks.ca_bundle),
                )
            return self._clients[route]

    def _proxy(self, address: str) -> "httpx.Proxy":
        """The proxy, which shows a certificate too if it speaks TLS. Raises: InvalidSettings."""
        import httpx

        if address.startswith("socks") and find_spec("socksio") is None:
            raise InvalidSettings(
                "a SOCKS proxy needs the package `socksio`, which is not installed",
                hint="install `httpx[socks]`, or name an HTTP proxy in HTTP_PROXY and HTTPS_PROXY",
            )
        secure = trusted(self._networks.ca_bundle) if address.startswith("https:") else None
        return httpx.Proxy(address, ssl_context=secure)


def translate(error: Exception, url: str, proxy: str | None = None) -> RemoteError:
    """Our error for one of the HTTP library's, with the address and what to try; never a proxy's password."""
    import httpx

    where = f"`{origin(url)}`"
    cause = _root_cause(error)
    if isinstance(error, httpx.ConnectError) and isinstance(cause, ssl.SSLError):
        reason, hint = tls_failure(cause)
        return Unreachable(f"no secure connection to {where}: {reason}", hint=hint)
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        through = f" through the proxy `{origin(proxy)}`" if proxy else ""
        return Unreachable(
            f"cannot connect to {where}{through}: {_in_words(cause) or type(error).__name__}",
            hint="check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
            if proxy
            else "check the address, the network and HTTPS_PROXY",
        )
    if isinstance(error, httpx.TimeoutException):
        return ConnectionBroken(f"{where} stopped answering", hint="try again; what was received is kept")
    if isinstance(error, httpx.ProxyError):
        return _proxy_refusal(url, proxy, str(error))
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Unreachable(f"`{url.partition('?')[0]}` is not an address that can be used")
    return ConnectionBroken(
        f"the connection to {where} broke: {error or type(error).__name__}",
        hint="try again; what was received is kept",
    )


def _is_proxys(response: "httpx.Response") -> bool:
    """Whether a refusal is the proxy's own: it reads what is not encrypted, and may answer in the place of
    the registry, which would have said that it is one, or why it refuses.
    """
    if response.status_code != _FORBIDDEN or response.request.url.scheme == "https":
        return response.status_code == _PROXY_WANTS_LOGIN
    told = "json" in response.headers.get("content-type", "") or _API_VERSION in response.headers
    return not told


def _proxy_refusal(url: str, proxy: str | None, said: str) -> Unreachable:
    """The error for a proxy that does not let us through; `said` begins with its status."""
    name = f"the proxy `{origin(proxy)}`" if proxy else "the proxy"
    if said.startswith(str(_PROXY_WANTS_LOGIN)):
        return Unreachable(
            f"{name} wants a user and a password before it goes to `{origin(url)}`",
            hint="write them into HTTPS_PROXY and HTTP_PROXY: http://USER:PASSWORD@HOST:PORT",
        )
    return Unreachable(
        f"{name} refused the way to `{origin(url)}`: {said}",
        hint="check HTTPS_PROXY; a host that is reached directly belongs into NO_PROXY",
    )


def origin(url: str) -> str:
    """Scheme, host and port of `url`, without anything secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port}" if parts.port else f"{parts.scheme}://{shown}"


def _library_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


def _in_words(cause: BaseException | None) -> str:
    """The system's reason without its number, as a part of our sentence."""
    reason = (isinstance(cause, OSError) and cause.strerror) or str(cause or "")
    return reason[:1].lower() + reason[1:]


def _root_cause(error: BaseException) -> OSError | None:
    """The system's own error under the library's layers of errors."""
    seen: set[int] = set()
    cause = error.__cause__ or error.__context__
    while cause is not None and id(cause) not in seen and not isinstance(cause, OSError):
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return cause if isinstance(cause, OSError) else None


def _pieces(reader: Reader) -> Iterator[bytes]:
    """The body in large pieces; the reader is closed at the end, or when the request is given up."""
    buffer = memoryview(bytearray(PIECE))
    with reader:
        while count := reader.readinto(buffer):
            yield bytes(buffer[:count])
