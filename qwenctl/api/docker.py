"""Docker Model Runner's door: `/models`, and what is under `/engines` beside OpenAI's API.

The engine is called `llama.cpp`, the only one. A refusal is a line of plain text, as there.

Source: docker/model-runner, `pkg/inference/models/{http_handler,api}.go`, `pkg/inference/scheduling/
{http_handler,api}.go`, `pkg/distribution/internal/progress/reporter.go`.
"""

import asyncio
import html
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from qwenctl import __version__
from qwenctl.api.doors import ENGINE
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, started
from qwenctl.api.failures import http_status
from qwenctl.api.host import KeepAlive, keep_alive_seconds
from qwenctl.api.library import (
    BlobAt,
    Library,
    Progress,
    Resident,
    Residents,
    Resolved,
    StoredModel,
    Transferred,
    remove,
)
from qwenctl.api.ollama_errors import rfc3339
from qwenctl.errors import Conflict, InvalidRequest, QwenctlError, ReferenceUnknown, Unauthorized
from qwenctl.units import render_bytes

_CREATED: Final = 201
_ACCEPTED: Final = 202
_NOT_IMPLEMENTED: Final = 501


class TransferCall(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The body of `POST /models/create`, and of a push, which names no `from`.

    `ignore_runtime_memory_check` brings what does not fit this machine, too.
    """

    from_: str = msgspec.field(default="", name="from")
    ignore_runtime_memory_check: bool | None = None
    bearer_token: str | None = None
    username: str | None = None
    password: str | None = None

    def refuse_credentials(self) -> None:
        """Raises: InvalidRequest when there are any: registries are logged in to on this machine."""
        if self.bearer_token or self.username or self.password:
            raise InvalidRequest("credentials are not taken in a request", hint="`qwenctl login` keeps them")


class UnloadCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /engines/unload`."""

    all: bool | None = None
    backend: str | None = None
    models: tuple[str, ...] | None = None


class ConfigureCall(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The body of `POST /engines/_configure`. A context of -1, or none, is the model's own."""

    model: str
    context_size: int | None = None
    keep_alive: KeepAlive = None
    runtime_flags: tuple[str, ...] | None = None
    raw_runtime_flags: str | None = None
    speculative: dict[str, Any] | None = None
    vllm: dict[str, Any] | None = None

    @property
    def context_length(self) -> int | None:
        """In tokens; None is the model's own. Raises: InvalidRequest, also for what we cannot do."""
        for name in ("runtime_flags", "raw_runtime_flags", "speculative", "vllm"):
            if getattr(self, name):
                raise InvalidRequest(f"`{name.replace('_', '-')}` is not supported", hint="leave it out")
        if self.context_size in (None, -1):
            return None
        if self.context_size < 1:
            raise InvalidRequest(f"`context-size` is {self.context_size}, not a number of tokens")
        return self.context_size


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it: in a line of text, missing credentials with a status of their own."""
    status = 401 if isinstance(error, Unauthorized) else http_status(error)
    return PlainTextResponse(_words(error) + "\n", status)


def routes(residents: Residents, library: Library) -> list[Route]:
    """The routes; they come before those of OpenAI's API under `/engines`."""
    models, engines, safe = _Models(residents, library), _Engines(residents, library), answering(refusal)
    return [
        Route("/models", safe(models.list), methods=["GET"]),
        Route("/models/create", safe(models.create), methods=["POST"]),
        Route("/models/load", _not_here, methods=["POST"]),
        Route("/models/purge", safe(models.purge), methods=["DELETE"]),
        Route("/models/{name:path}/tag", safe(models.tag), methods=["POST"]),
        Route("/models/{name:path}/push", safe(models.push), methods=["POST"]),
        Route("/models/{name:path}/repackage", _not_here, methods=["POST"]),
        Route("/models/{name:path}/export", _not_here, methods=["GET"]),
        Route("/models/{name:path}", safe(models.show), methods=["GET"]),
        Route("/models/{name:path}", safe(models.delete), methods=["DELETE"]),
        Route("/engines/status", safe(engines.status), methods=["GET"]),
        Route("/engines/ps", safe(engines.ps), methods=["GET"]),
        Route("/engines/df", safe(engines.df), methods=["GET"]),
        Route("/engines/unload", safe(engines.unload), methods=["POST"]),
        Route("/engines/_configure", safe(engines.configure), methods=["POST"]),
        Route("/engines/_configure", safe(engines.configurations), methods=["GET"]),
        Route(f"/engines/{ENGINE}/_configure", safe(engines.configure), methods=["POST"]),
        Route("/version", _version, methods=["GET"]),
    ]


async def _version(_: Request) -> Response:
    return json_response({"version": __version__})


async def _not_here(_: Request) -> Response:
    return PlainTextResponse(
        "models are not made, and not carried as archives, over this API; `qwenctl package` makes one\n",
        _NOT_IMPLEMENTED,
    )


class _Models:
    """The endpoints of the store."""

    def __init__(self, residents: Residents, library: Library) -> None:
        self._residents, self._library = residents, library

    async def list(self, _: Request) -> Response:
        return json_response(_grouped(await self._library.models()))

    async def show(self, request: Request) -> Response:
        if request.query_params.get("remote", "").lower() in ("1", "t", "true"):
            raise InvalidRequest("`remote` is not supported", hint="`qwenctl fit` looks at a model elsewhere")
        found = await self._library.find(request.path_params["name"])
        same = [model for model in await self._library.models() if model.id == found.id]
        return json_response(_grouped(same or [found])[0])

    async def create(self, request: Request) -> Response:
        call = await read_as(request, TransferCall)
        call.refuse_credentials()
        if not call.from_:
            raise InvalidRequest("`from` is missing", hint="name a model")
        steps = self._library.pull(call.from_, force=bool(call.ignore_runtime_memory_check))
        return await _transfer(request, steps, "pull")

    async def push(self, request: Request) -> Response:
        (await read_as(request, TransferCall)).refuse_credentials()
        return await _transfer(request, self._library.push(request.path_params["name"]), "push")

    async def tag(self, request: Request) -> Response:
        repository, tag = (request.query_params.get(name) for name in ("repo", "tag"))
        if not (repository and tag):
            raise InvalidRequest("`repo` or `tag` is missing in the query", hint="?repo=NAME&tag=TAG")
        target = f"{repository}:{tag}"
        await self._library.tag(request.path_params["name"], target)
        said = {"message": f'Model tagged successfully with "{target}"', "target": target}
        return json_response(said, _CREATED)

    async def delete(self, request: Request) -> Response:
        force = request.query_params.get("force", "").lower() in ("1", "t", "true")
        removed = await remove(request.path_params["name"], self._library, self._residents, force=force)
        untagged = [{"Untagged": name} for name in removed.untagged]
        return json_response([*untagged, *({"Deleted": digest} for digest in removed.deleted)])

    async def purge(self, _: Request) -> Response:
        await self._residents.stop(None)
        for model in await self._library.models():
            with suppress(ReferenceUnknown):  # it went meanwhile
                await self._library.remove(model.reference or model.id)
        return Response()


class _Engines:
    """The endpoints of what runs."""

    def __init__(self, residents: Residents, library: Library) -> None:
        self._residents, self._library = residents, library
        self._preloads: set[asyncio.Task[None]] = set()

    async def status(self, _: Request) -> Response:
        return json_response({ENGINE: "running"})

    async def ps(self, _: Request) -> Response:
        return json_response([_running(model) for model in await self._residents.loaded()])

    async def df(self, _: Request) -> Response:
        used = await self._library.disk_bytes()
        return json_response({"models_disk_usage": used, "default_backend_disk_usage": 0})

    async def unload(self, request: Request) -> Response:
        """What is at work stays, as there."""
        call = await read_as(request, UnloadCall)
        wanted = [] if call.backend not in (None, "", ENGINE) else await self._residents.loaded()
        if not call.all:
            ids = {await self._id(name) for name in call.models or ()}
            wanted = [model for model in wanted if not ids.isdisjoint((model.id, model.name))]
        idle = [model.id for model in wanted if not model.requests]
        for id in idle:
            await self._residents.stop(id)
        return json_response({"unloaded_runners": len(idle)})

    async def configure(self, request: Request) -> Response:
        """The model is loaded with it at once, in the background, as there."""
        call = await read_as(request, ConfigureCall)
        seconds = keep_alive_seconds(call.keep_alive, "keep-alive")
        kept = None if seconds is None else "-1" if seconds == float("inf") else f"{seconds:g}s"
        found = await self._library.find(call.model)
        for resident in await self._residents.loaded():
            if resident.id == found.id and resident.requests:
                raise Conflict(f"`{found.name}` works", hint="configure it when it is done")
        await self._library.configure(call.model, context_length=call.context_length, keep_alive=kept)
        await self._residents.stop(found.id)
        preload = asyncio.create_task(self._preload(call.model))
        self._preloads.add(preload)
        preload.add_done_callback(self._preloads.discard)
        return Response(status_code=_ACCEPTED)

    async def configurations(self, request: Request) -> Response:
        contexts, asked = await self._library.contexts(), request.query_params.get("model")
        id = await self._id(asked) if asked else None
        entries = [
            {
                "Backend": ENGINE,
                "Model": model.name,
                "ModelID": model.id,
                "Mode": "completion",
                "Config": {"context-size": contexts[model.reference]},
            }
            for model in await self._library.models()
            if model.reference in contexts and id in (None, model.id)
        ]
        return json_response(entries)

    async def _preload(self, name: str) -> None:
        with suppress(QwenctlError):  # the runner logs it, and the first request will say it
            await self._residents.load(name)

    async def _id(self, name: str) -> str:
        """The id of a model, or the name itself when the store has none of that name any more."""
        try:
            return (await self._library.find(name)).id
        except ReferenceUnknown:
            return name


async def _transfer(request: Request, steps: AsyncGenerator[Progress], mode: str) -> Response:
    """Its progress line by line: JSON for who accepts it, else the same escaped as a text for pages."""
    wants_json = "application/json" in request.headers.get("accept", "")

    def line(kind: str, message: str, **further: Any) -> bytes:
        text = msgspec.json.encode({"type": kind, "message": message, **further, "mode": mode}).decode()
        return (text if wants_json else html.escape(text)).encode() + b"\n"

    chunks = _lines(await started(request, steps), mode, line)
    media_type = "application/json" if wants_json else "text/plain"
    return EventStream(chunks, media_type, lambda error: line("error", _words(error)))


async def _lines(
    steps: AsyncGenerator[Progress], mode: str, line: Callable[..., bytes]
) -> AsyncGenerator[bytes]:
    total = 0
    verb = "Downloaded" if mode == "pull" else "Uploaded"
    async with aclosing(steps):
        async for step in steps:
            match step:
                case Resolved():
                    total = step.size_bytes
                case BlobAt(digest, size, position):
                    layer = {"id": digest, "size": size, "current": position}
                    message = f"{verb}: {render_bytes(position)}"
                    yield line("progress", message, total=total or size, layer=layer)
                case Transferred():
                    yield line("success", _success(step, mode, total))


def _success(step: Transferred, mode: str, total: int) -> str:
    if mode == "push":
        return "Model pushed successfully"
    return "Model pulled successfully" if step.moved_bytes else f"Using cached model: {render_bytes(total)}"


def _grouped(models: Iterable[StoredModel]) -> list[dict[str, Any]]:
    """Each model once, with all of its tags; one that is pinned only has none."""
    grouped: dict[str, list[StoredModel]] = {}
    for model in models:
        grouped.setdefault(model.id, []).append(model)
    return [_model(same) for same in grouped.values()]


def _model(same: list[StoredModel]) -> dict[str, Any]:
    model = same[0]
    config = {
        "format": model.format,
        "quantization": model.quantization,
        "parameters": model.parameters,
        "architecture": model.architecture,
        "size": render_bytes(model.size_bytes).replace(" ", ""),
        "gguf": dict(model.summary),
        "context_size": model.context_length,
    }
    return {
        "id": model.id,
        "tags": [item.reference for item in same if item.reference and "@" not in item.reference],
        "created": model.created_seconds,
        "config": {name: value for name, value in config.items() if value},
    }


def _running(model: Resident) -> dict[str, Any]:
    """Until when it stays is said there as its last use and how long it is kept after that."""
    left = model.expires_seconds
    return {
        "backend_name": ENGINE,
        "model_name": model.name,
        "mode": "completion",
        "last_used": rfc3339(time.time()),
        "in_use": model.requests > 0,
        "loading": not model.ready,
        "keep_alive": "-1" if left is None else f"{left:.0f}s",
    }


def _words(error: QwenctlError) -> str:
    return f"{error.message}; {error.hint}" if error.hint else error.message
