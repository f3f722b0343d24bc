"""From a path and a method to the endpoint; what none takes is refused in the form of the door it is for."""

from collections.abc import Iterable, Sequence
from typing import Final

from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.api.guard import ERROR, Refuse
from qwenctl.errors import NotFound, QwenctlError, UsageError

_METHOD_NOT_ALLOWED: Final = 405
_SHOWN_CHARACTERS: Final = 200  # of a path, which is the client's to choose


class Routing:
    """An ASGI application of routes, the first that matches. A slash at a path's end makes no difference.

    404 for a path that nobody has; 405 for a method that nobody takes there, with those that are taken.
    Starlette's own router would say both in plain text, and send clients on for a slash: over a proxy with
    TLS that is to `http`, with the key in the clear.
    """

    def __init__(self, routes: Sequence[Route], refuse: Refuse) -> None:
        self._routes = routes
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        scope["path"] = scope["path"].rstrip("/") or "/"
        await self._application(scope)(scope, receive, send)

    def _application(self, scope: Scope) -> ASGIApp:
        allowed: set[str] = set()
        for route in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                return route.handle
            if match is Match.PARTIAL:
                allowed |= route.methods or set()
        return self._refusal(scope, ", ".join(sorted(allowed)))

    def _refusal(self, scope: Scope, allowed: str) -> ASGIApp:
        path = scope["path"][:_SHOWN_CHARACTERS]
        error: QwenctlError
        if allowed:
            error = UsageError(f"`{path}` does not take {scope['method'][:20]}", hint=f"it takes {allowed}")
        else:
            hint = "the doors are /v1, /engines, /models, /anthropic, /api and /qwenctl/v1"
            error = NotFound(f"there is no `{path}` here", hint=hint)
        scope[ERROR] = error
        response = self._refuse(scope, error)
        if allowed:
            response.status_code = _METHOD_NOT_ALLOWED
            response.headers["allow"] = allowed  # RFC 9110, 15.5.6: a 405 must have one
        return response


def mounted(path: str, routes: Iterable[Route]) -> list[Route]:
    """`routes` once more, under `path`."""
    return [type(route)(path + route.path, route.endpoint, methods=route.methods) for route in routes]
