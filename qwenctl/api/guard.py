"""Who may come in over TCP: programs of this machine, or those that know the key; never a strange web page.

A page can make a browser talk to a loopback address, by naming it in a request of its own (`Origin` tells)
or by a host name that is re-pointed to 127.0.0.1 after the page was loaded (DNS rebinding: `Host` tells).
Programs send no `Origin` and name the loopback address they connect to. Beyond loopback the `Host` is
anybody's choice, and the key, which no page knows, keeps strangers out.
"""

import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.errors import ForeignOrigin, InvalidApiKey, QwenctlError

_SHOWN_CHARACTERS: Final = 200
HEALTH: Final = "/health"
"""What is asked without a key, by those who watch over a server."""
ERROR: Final = "qwenctl.error"
"""Where in the scope of a request an error is left, for layers further out."""

Refuse = Callable[[Scope, QwenctlError], Response]
"""An error in the shape of the door that a request is for."""

_AUTHORITY: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{0,5})?", re.ASCII)
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Who may come in. `origins` are the pages that may, as browsers name them; `*` is all of them.

    With `any_host` the server is known by names that it cannot know itself; it has a key then.
    """

    api_key: str | None = None
    any_host: bool = False
    origins: frozenset[str] = frozenset()


class Guard:
    """An ASGI layer that refuses a request before anything of it is read.

    403 unless `Host`, and `Origin` if there is one, may be; 401 without the key. A Unix socket is the user's
    own: who can open it needs no key.
    """

    def __init__(self, app: ASGIApp, refuse: Refuse, admission: Admission | None = None) -> None:
        self._app = app
        self._refuse = refuse
        self._admission = admission or Admission()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        error = self._complaint(scope) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
            return
        scope[ERROR] = error
        response = self._refuse(scope, error)
        if isinstance(error, InvalidApiKey):
            response.headers["www-authenticate"] = "Bearer"  # RFC 9110, 11.6.1: a 401 must have one
        await response(scope, receive, send)

    def _complaint(self, scope: Scope) -> QwenctlError | None:
        stranger = next(self._strangers(scope), None)
        if stranger is not None:
            return ForeignOrigin(
                f"`{stranger[:_SHOWN_CHARACTERS]}` is not this machine"
                if stranger
                else "the request names no host",
                hint="use http://localhost or http://127.0.0.1 with the port; web pages of other sites are "
                "refused, unless `--cors` names them",
            )
        if self._admission.api_key is None or is_unix(scope) or scope["path"] == HEALTH:
            return None
        if any(_same(given, self._admission.api_key) for given in _keys(scope)):
            return None
        return InvalidApiKey(
            "the key is missing or wrong", hint="send `Authorization: Bearer KEY`, or `x-api-key: KEY`"
        )

    def _strangers(self, scope: Scope) -> Iterator[str]:
        """The names in `Host` and `Origin` that must not be there."""
        hosts = _values(scope, b"host")
        if not self._admission.any_host or is_unix(scope):
            yield from (host for host in hosts or [""] if not is_loopback(host))
        for origin in _values(scope, b"origin"):
            authority = origin.partition("://")[2]
            allowed = self._admission.origins & {"*", origin}
            if not (allowed or is_loopback(authority) or authority in hosts):
                yield origin


def with_cors(app: ASGIApp, origins: frozenset[str]) -> ASGIApp:
    """`app`, whose answers pages of these origins may read; as it is where there are none.

    Source: Fetch standard, 3.3 (CORS protocol).
    """
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "HEAD", "POST", "DELETE", "OPTIONS"),
        allow_headers=("*",),
        expose_headers=("Retry-After", "X-Request-Id"),
        allow_private_network=True,  # a public page may ask for an address on a private network
    )


def is_loopback(authority: str) -> bool:
    """Whether `HOST[:PORT]` names this machine. Source: RFC 9110, 7.2: there is no user in it."""
    match = _AUTHORITY.fullmatch(authority)
    return match is not None and match[1].strip("[]").lower() in _LOOPBACK


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _keys(scope: Scope) -> Iterator[str]:
    yield from _values(scope, b"x-api-key")
    for value in _values(scope, b"authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() == "bearer":
            yield key.strip()


def _same(given: str, key: str) -> bool:
    """Compared in a time that does not tell how much of it was right."""
    return hmac.compare_digest(given.encode("latin-1", "replace"), key.encode())


def is_unix(scope: Scope) -> bool:
    """Whether a request came by a Unix socket, from the user who owns it."""
    server = scope.get("server")
    return server is not None and server[1] is None  # ASGI: the path of a Unix socket comes without a port
