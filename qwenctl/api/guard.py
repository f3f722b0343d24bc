"""Keeps web pages out of a server that trusts everyone who can reach it.

A page can make a browser talk to a loopback address, by naming it in a request of its own (`Origin` tells)
or by a host name that is re-pointed to 127.0.0.1 after the page was loaded (DNS rebinding: `Host` tells).
Programs send no `Origin` and name the loopback address they connect to.
"""

from typing import Final
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class LoopbackGuard:
    """An ASGI layer that answers 403 unless `Host`, and `Origin` if there is one, name this machine."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before anything of it is read."""
        if scope["type"] == "http" and (strangers := _strangers(scope)):
            message = f"`{strangers[0]}` is not this machine"
            hint = (
                "use http://localhost or http://127.0.0.1 with the port; web pages of other sites are refused"
            )
            body = {
                "error": {"message": message, "type": "access_denied", "code": "access_denied", "hint": hint}
            }
            await JSONResponse(body, status_code=403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_loopback(authority: str) -> bool:
    """Whether `HOST[:PORT]` names this machine."""
    try:
        return urlsplit(f"//{authority}").hostname in _LOOPBACK
    except ValueError:  # an unclosed bracket
        return False


def _strangers(scope: Scope) -> list[str]:
    """The names in `Host` and `Origin` that are not this machine's."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    authorities = {host: host for host in hosts or [""]}
    authorities |= {origin: origin.partition("://")[2] for origin in origins}
    return [name for name, authority in authorities.items() if not is_loopback(authority)]
