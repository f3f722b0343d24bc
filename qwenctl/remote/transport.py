"""One request, one response: the only module that knows the HTTP library.

Redirects are not followed here (`client` does, and drops credentials when the origin changes), bodies are
streamed in both directions, and every error of the library becomes one of ours.
"""

import ipaddress
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from qwenctl import __version__
from qwenctl.errors import ConnectionBroken, RemoteError, Unreachable
from qwenctl.oci.target import PIECE, Reader

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS: Final = 15.0
READ_SECONDS: Final = 30.0
"""Silence of this length counts as a broken connection."""
BODY_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of an answer that is read whole and is no manifest: tokens, errors, lists."""

Headers = Mapping[str, str]
Body = bytes | Callable[[], Reader]
"""What is sent: bytes, or a function that opens the content anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. `length` is the size of a body that is opened."""

    method: str
    url: str
    headers: Headers = field(default_factory=dict)
    body: Body | None = None
    length: int = 0


class Response:
    """What came back. The caller closes it; closing in the middle drops the connection."""

    def __init__(self, url: str, status: int, headers: Headers, response: "httpx.Response") -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self._response = response
        self._pieces: Iterator[bytes] | None = None
        self._rest = memoryview(b"")
        self._broken: Exception | None = None

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`. What came before the connection broke is given first, the error after that.

        Raises: ConnectionBroken.
        """
        filled = 0
        while filled < len(buffer):
            if not self._rest and not self._next(raising=not filled):
                break
            count = min(len(self._rest), len(buffer) - filled)
            buffer[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return filled

    def read(self, limit: int = BODY_LIMIT) -> bytes:
        """The body, at most `limit` bytes of it, and the end of this response."""
        pieces = bytearray()
        buffer = memoryview(bytearray(min(PIECE, limit)))
        with self:
            while len(pieces) < limit and (count := self.readinto(buffer)):
                pieces += buffer[:count]
        return bytes(pieces[:limit])

    def close(self) -> None:
        """Release the connection."""
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next(self, *, raising: bool) -> bool:
        """Whether there is another piece; an error waits until it may be raised."""
        if self._pieces is None:
            self._pieces = self._response.iter_raw()
        if self._broken is None:
            try:
                piece = next(self._pieces, b"")
            except _library_errors() as error:
                self._broken = error
            else:
                self._rest = memoryview(piece)
                return bool(piece)
        if raising:
            raise translate(self._broken, self.url) from self._broken
        return False


class Transport:
    """Connections, kept between requests. Any thread may send; the caller closes it.

    Proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) and certificates (`SSL_CERT_FILE`) are the
    environment's, as the library reads them.
    """

    def __init__(self, connect_seconds: float = CONNECT_SECONDS, read_seconds: float = READ_SECONDS) -> None:
        import httpx

        timeout = httpx.Timeout(read_seconds, connect=connect_seconds)
        headers = {"User-Agent": f"qwenctl/{__version__}", "Accept-Encoding": "identity"}
        self._client = httpx.Client(timeout=timeout, headers=headers, follow_redirects=False)

    def send(self, request: Request) -> Response:
        """The answer to `request`, its body not yet read. Raises: Unreachable."""
        headers, body = dict(request.headers), request.body
        content: bytes | Iterator[bytes] | None = None
        if isinstance(body, bytes):
            content = body
        elif body is not None:
            headers["Content-Length"] = str(request.length)
            content = _pieces(body())
        try:
            sent = self._client.build_request(request.method, request.url, headers=headers, content=content)
            response = self._client.send(sent, stream=True)
        except _library_errors() as error:
            raise translate(error, request.url) from error
        lowered = {key.lower(): value for key, value in response.headers.multi_items()}
        lowered["www-authenticate"] = ", ".join(response.headers.get_list("www-authenticate"))
        return Response(request.url, response.status_code, lowered, response)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def translate(error: Exception, url: str) -> RemoteError:
    """Our error for one of the HTTP library's, with the address and what to try."""
    import httpx

    where = f"`{origin(url)}`"
    if isinstance(error, httpx.ConnectError) and isinstance(_root_cause(error), ssl.SSLError):
        return Unreachable(
            f"no secure connection to {where}: {_root_cause(error)}",
            hint="set SSL_CERT_FILE to your own authority's certificates; "
            "for a registry without TLS set QWENCTL_INSECURE_REGISTRIES",
        )
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return Unreachable(
            f"cannot connect to {where}: {_root_cause(error) or type(error).__name__}",
            hint="check the address, the network and HTTPS_PROXY",
        )
    if isinstance(error, httpx.TimeoutException):
        return ConnectionBroken(f"{where} stopped answering", hint="try again; what was received is kept")
    if isinstance(error, httpx.ProxyError):
        return Unreachable(f"the proxy refused the way to {where}: {error}", hint="check HTTPS_PROXY")
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Unreachable(f"`{url.partition('?')[0]}` is not an address that can be used")
    return ConnectionBroken(
        f"the connection to {where} broke: {error or type(error).__name__}",
        hint="try again; what was received is kept",
    )


def origin(url: str) -> str:
    """Scheme, host and port of `url`, without anything secret."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port}" if parts.port else f"{parts.scheme}://{shown}"


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine: `localhost`, 127.0.0.0/8 or ::1."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _library_errors() -> tuple[type[Exception], ...]:
    import httpx

    return (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)


def _root_cause(error: BaseException) -> OSError | None:
    """The system's own error under the library's layers of errors."""
    cause = error.__cause__ or error.__context__
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _pieces(reader: Reader) -> Iterator[bytes]:
    """The body in large pieces; the reader is closed at the end, or when the request is given up."""
    buffer = memoryview(bytearray(PIECE))
    with reader:
        while count := reader.readinto(buffer):
            yield bytes(buffer[:count])
