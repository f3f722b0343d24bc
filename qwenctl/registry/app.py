"""The routes: a path by the specification's grammar to the end-point that answers it."""

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from qwenctl.errors import DiskFull, QwenctlError
from qwenctl.oci.protocol import ErrorCode
from qwenctl.oci.reference import is_repository
from qwenctl.registry.answers import Refusal, json_response
from qwenctl.registry.blobs import Blobs
from qwenctl.registry.manifests import Manifests
from qwenctl.registry.shelf import REGISTRIES, Shelf
from qwenctl.registry.uploads import Uploads
from qwenctl.store.store import Store

Authorize = Callable[[str | None], bool]
"""Given the value of `Authorization`, whether the request may go on."""

_VERSION_HEADER: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}
_ROUTE: Final = re.compile(
    r"/v2/(?P<name>.+?)/"
    r"(?:blobs/uploads(?:/(?P<upload>[^/]*))?|blobs/(?P<blob>[^/]+)|manifests/(?P<manifest>[^/]+)"
    r"|tags/(?P<tags>list)|referrers/(?P<referrers>[^/]+))"
)
_log: Final = logging.getLogger("qwenctl.registry")


class RegistryApp:
    """The ASGI application. `fallback` is a store that is only read, such as the built-in registry."""

    def __init__(
        self,
        store: Store,
        fallback: Store | None = None,
        registries: Sequence[str] = REGISTRIES,
        authorize: Authorize | None = None,
    ) -> None:
        shelf = Shelf(store, fallback, registries)
        self._blobs = Blobs(shelf, Uploads(store))
        self._manifests = Manifests(shelf)
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request of the protocol; anything else than HTTP is not served."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refusal as refusal:
            response = refusal.response()
        except QwenctlError as error:
            _log.warning("%s %s: %s", request.method, request.url.path, error.message)
            status = 507 if isinstance(error, DiskFull) else 500
            response = Refusal(status, ErrorCode.UNSUPPORTED, error.message).response()
        response.headers.update(_VERSION_HEADER)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if self._authorize and not self._authorize(request.headers.get("authorization")):
            headers = {"WWW-Authenticate": 'Basic realm="qwenctl"'}
            raise Refusal(401, ErrorCode.UNAUTHORIZED, "a user and a password are needed", headers)
        path = str(request.scope["path"])  # the server has undone the escapes, once
        if path in ("/v2", "/v2/"):
            _require_reading(request)
            return json_response({})
        if path == "/v2/_catalog":
            _require_reading(request)
            return await run_in_threadpool(self._manifests.catalog, request)
        return await self._route(request, path)

    async def _route(self, request: Request, path: str) -> Response:
        match = _ROUTE.fullmatch(path)
        if match is None or not is_repository(match["name"]):
            raise Refusal(404, ErrorCode.NAME_INVALID, f"nothing at `{path[:200]}`")
        name = match["name"]
        if match["tags"] or match["referrers"]:
            _require_reading(request)
        answer: Awaitable[Response]
        if match["upload"]:
            answer = self._blobs.session(request, name, match["upload"])
        elif match["blob"]:
            answer = self._blobs.blob(request, name, match["blob"])
        elif match["manifest"]:
            answer = self._manifests.manifest(request, name, match["manifest"])
        elif match["tags"]:
            answer = run_in_threadpool(self._manifests.tags, request, name)
        elif match["referrers"]:
            answer = run_in_threadpool(self._manifests.referrers, request, name, match["referrers"])
        else:
            answer = self._blobs.start(request, name)
        return await answer


def _require_reading(request: Request) -> None:
    if request.method not in ("GET", "HEAD"):
        raise Refusal(405, ErrorCode.UNSUPPORTED, f"`{request.method}` on a list")
