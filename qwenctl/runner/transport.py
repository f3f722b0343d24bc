"""The two ways to a runner: the private socket of this user's own, and a URL with a key for one elsewhere.

Over `http.client` rather than httpx: each request is one connection, and every `qwenctl run` would pay
httpx's import (100 ms) again. It follows no redirect, which is what keeps the key with its host.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTP_PORT, HTTPS_PORT, HTTPConnection, HTTPSConnection
from pathlib import Path
from socket import AF_UNIX, SO_KEEPALIVE, SOCK_STREAM, SOL_SOCKET, socket
from typing import Final, Protocol
from urllib.parse import urlsplit

from qwenctl.errors import (
    InvalidApiKey,
    QwenctlError,
    RunnerUnavailable,
    Unauthorized,
    Unreachable,
    UsageError,
)
from qwenctl.settings import Settings

_CONNECT_SECONDS: Final = 10.0


class Transport(Protocol):
    """How a runner is reached, and how it is told that it was not."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What goes with each request."""
        ...

    @property
    def prefix(self) -> str:
        """What goes before each path."""
        ...

    def open(self, timeout_seconds: float | None) -> HTTPConnection:
        """A connection for one request, which may wait so long for each piece of its answer.

        Raises: OSError; FileMissing, InvalidSettings for certificates that cannot be used.
        """
        ...

    def silent(self, why: Exception) -> QwenctlError:
        """The error for a runner that cannot be reached, or not be understood."""
        ...

    def refused(self, error: QwenctlError) -> QwenctlError:
        """An error of the runner, as it is for who sits here."""
        ...


@dataclass(frozen=True, slots=True)
class SocketTransport:
    """The user's own runner, by its socket; its log is what the user reads when it is silent."""

    path: Path
    log: Path
    headers: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""

    def open(self, timeout_seconds: float | None) -> HTTPConnection:
        """See `Transport`."""
        return _connected(_UnixConnection(self.path, timeout_seconds))

    def silent(self, why: Exception) -> QwenctlError:
        """See `Transport`."""
        return RunnerUnavailable(
            f"the runner does not answer: {_words(why)}", hint=f"its log is `{self.log}`"
        )

    def refused(self, error: QwenctlError) -> QwenctlError:
        """See `Transport`."""
        return error


@dataclass(frozen=True, slots=True)
class UrlTransport:
    """A runner elsewhere: `qwenctl serve` at a URL. The key is in no `repr` and goes to this host alone.

    With `insecure` nobody's word proves who answers over HTTPS; else it is the system's certificates, and
    those in `ca_bundle`. Proxies of the environment are not used.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    insecure: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Transport`."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def prefix(self) -> str:
        """See `Transport`."""
        return urlsplit(self.url).path.rstrip("/")

    def open(self, timeout_seconds: float | None) -> HTTPConnection:
        """See `Transport`."""
        connection = _connected(self._connection())
        # An answer may take hours, and a host that died would be waited for without end.
        connection.sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        connection.sock.settimeout(timeout_seconds)
        return connection

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        host = str(parts.hostname)
        if parts.scheme == "http":
            return HTTPConnection(host, parts.port or HTTP_PORT, timeout=_CONNECT_SECONDS)
        import ssl

        from qwenctl.remote.trust import trusted

        context = trusted(self.ca_bundle)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return HTTPSConnection(host, parts.port or HTTPS_PORT, timeout=_CONNECT_SECONDS, context=context)

    def silent(self, why: Exception) -> QwenctlError:
        """See `Transport`."""
        import ssl

        hint = "is `qwenctl serve --host ADDRESS` running there? `qwenctl context list` has the addresses"
        told = _words(why)
        if isinstance(why, ssl.SSLCertVerificationError):
            told = why.verify_message
            hint = "for an authority of your own set QWENCTL_CA_BUNDLE to its certificates"
        return Unreachable(f"the runner at `{self.url}` does not answer: {told}", hint=hint)

    def refused(self, error: QwenctlError) -> QwenctlError:
        """See `Transport`."""
        if not isinstance(error, InvalidApiKey):
            return error
        return Unauthorized(
            f"the runner at `{self.url}` {'refuses this key' if self.api_key else 'wants a key'}",
            hint="`qwenctl context create NAME --url URL --api-key-file FILE`, "
            "or $QWENCTL_API_KEY beside $QWENCTL_RUNNER",
        )


def transport_to(settings: Settings) -> SocketTransport:
    """The way to this user's own runner."""
    from qwenctl.runner.messages import LOG_NAME, SOCKET_NAME

    return SocketTransport(settings.runtime / SOCKET_NAME, settings.state / LOG_NAME)


def parse_runner_url(text: str) -> str:
    """The address of a runner as it is used: no slash at its end. Raises: UsageError.

    No user in it, and no query: a key has its own place, where it is not shown.
    """
    hint = "write http[s]://HOST[:PORT][/PREFIX]"
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, usable = urlsplit(""), False
    if "@" in text:  # the message must not repeat a password
        raise UsageError("the address of a runner has a user in it", hint="give the key by `--api-key-file`")
    if not usable or parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", text):
        raise UsageError(f"`{text}` is not the address of a runner", hint=hint)
    return text.rstrip("/")


def _connected(connection: HTTPConnection) -> HTTPConnection:
    """The connection, made. Raises: OSError."""
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout_seconds: float | None) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket(AF_UNIX, SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
