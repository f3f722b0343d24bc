"""Ollama's door to the store and to the models in memory: what needs no model to run."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.exchange import EventStream, answering, json_response, read_as, started, unless_disconnected
from qwenctl.api.library import (
    BlobAt,
    Library,
    ModelDetails,
    Progress,
    Resident,
    Residents,
    Resolved,
    StoredModel,
    Transferred,
    remove,
)
from qwenctl.api.ollama_errors import LINES, failed, lines, refusal, rfc3339
from qwenctl.errors import InvalidRequest
from qwenctl.units import render_count

_FOREVER: Final = "9999-12-31T23:59:59Z"  # also of a model at work, which nobody knows the end of
_CENTURY_SECONDS: Final = 100 * 366 * 24 * 3600
_NOT_IMPLEMENTED: Final = 501
_SHORT: Final = 12  # hex digits of a digest in a line that people read
_LONG_ARRAYS: Final = "tokenizer."  # left out unless a call is verbose, as there

_PARAMETERS: Final = ("temperature", "top_k", "top_p", "min_p")


class NamedCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a call about one model; older clients say `name`.

    `force`, which Ollama does not have, pulls what does not fit this machine, too.
    """

    model: str = ""
    name: str = ""
    verbose: bool | None = None
    stream: bool | None = None
    insecure: bool | None = None
    force: bool | None = None

    @property
    def wanted(self) -> str:
        """Its name. Raises: InvalidRequest."""
        if not (self.model or self.name):
            raise InvalidRequest("`model` is missing", hint="name a model")
        return self.model or self.name


class CopyCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /api/copy`."""

    source: str
    destination: str


def routes(residents: Residents, library: Library) -> list[Route]:
    """The routes for models as things: to list, show, move, remove. What makes new ones is refused."""

    @answering(refusal)
    async def tags(_: Request) -> Response:
        return json_response({"models": [_listed(model) for model in await library.models()]})

    @answering(refusal)
    async def show(request: Request) -> Response:
        call = await read_as(request, NamedCall)
        return json_response(_shown(await library.show(call.wanted), bool(call.verbose)))

    @answering(refusal)
    async def ps(_: Request) -> Response:
        loaded = await residents.loaded()
        return json_response({"models": [_loaded(model) for model in loaded if model.ready]})

    @answering(refusal)
    async def pull(request: Request) -> Response:
        call = await read_as(request, NamedCall)
        steps = library.pull(call.wanted, insecure=bool(call.insecure), force=bool(call.force))
        return await _transfer(request, call, steps, "pulling")

    @answering(refusal)
    async def push(request: Request) -> Response:
        call = await read_as(request, NamedCall)
        steps = library.push(call.wanted, insecure=bool(call.insecure))
        return await _transfer(request, call, steps, "pushing")

    @answering(refusal)
    async def delete(request: Request) -> Response:
        call = await read_as(request, NamedCall)
        await remove(call.wanted, library, residents)
        return Response()

    @answering(refusal)
    async def copy(request: Request) -> Response:
        call = await read_as(request, CopyCall)
        await library.tag(call.source, call.destination)
        return Response()

    return [
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/show", show, methods=["POST"]),
        Route("/api/ps", ps, methods=["GET"]),
        Route("/api/pull", pull, methods=["POST"]),
        Route("/api/push", push, methods=["POST"]),
        Route("/api/delete", delete, methods=["DELETE"]),
        Route("/api/copy", copy, methods=["POST"]),
        Route("/api/create", _not_here, methods=["POST"]),
        Route("/api/blobs/{digest:path}", _not_here, methods=["POST", "HEAD"]),
    ]


async def _not_here(_: Request) -> Response:
    message = "models are not made over this API; `qwenctl package --gguf FILE NAME` makes one"
    return json_response({"error": message}, _NOT_IMPLEMENTED)


async def _transfer(
    request: Request, call: NamedCall, steps: AsyncGenerator[Progress], verb: str
) -> Response:
    """The words about a transfer as they come; whole, the last one."""
    steps = await started(request, steps)
    said = _statuses(steps, verb)
    if call.stream is None or call.stream:
        return EventStream(lines(said), LINES, failed)
    return json_response(await unless_disconnected(request, _last(said)))


async def _last(said: AsyncGenerator[dict[str, Any]]) -> dict[str, Any]:
    last: dict[str, Any] = {}
    async with aclosing(said):
        async for said_now in said:
            last = said_now
    return last


async def _statuses(steps: AsyncGenerator[Progress], verb: str) -> AsyncGenerator[dict[str, Any]]:
    """As Ollama words it; clients draw a bar for each digest.

    Every blob is verified while it comes, so that line tells what was done.
    """
    async with aclosing(steps):
        async for step in steps:
            match step:
                case Resolved():
                    yield {"status": f"{verb} manifest" if verb == "pulling" else "retrieving manifest"}
                case BlobAt(digest, size, position):
                    status = f"{verb} {digest.partition(':')[2][:_SHORT]}"
                    yield {"status": status, "digest": digest, "total": size, "completed": position}
                case Transferred():
                    yield {"status": "verifying sha256 digest" if verb == "pulling" else "pushing manifest"}
                    if verb == "pulling":
                        yield {"status": "writing manifest"}
                    yield {"status": "success"}


def _listed(model: StoredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": rfc3339(model.changed_seconds),
        "size": model.size_bytes,
        "digest": _hex(model.id),
        "details": _details(model.format, model.architecture, model.parameters, model.quantization),
    }


def _loaded(model: Resident) -> dict[str, Any]:
    left = model.expires_seconds
    parameters = render_count(model.parameters) if model.parameters else ""
    return {
        "name": model.name,
        "model": model.name,
        "size": model.memory_bytes,
        "digest": _hex(model.id),
        "details": _details("gguf", model.architecture, parameters, model.quantization),
        "expires_at": _FOREVER if left is None or left > _CENTURY_SECONDS else rfc3339(time.time() + left),
        "size_vram": model.device_bytes,
        "context_length": model.context_length or 0,
    }


def _shown(shown: ModelDetails, verbose: bool) -> dict[str, Any]:
    model = shown.model
    parameters = [f"{name:<30} {shown.sampling[name]:g}" for name in _PARAMETERS if name in shown.sampling]
    metadata = {
        key: None if isinstance(value, list) and key.startswith(_LONG_ARRAYS) and not verbose else value
        for key, value in shown.metadata.items()
        if key != "tokenizer.chat_template"
    }
    return {
        "modelfile": "\n".join([f"FROM {model.name}", *(f"PARAMETER {line}" for line in parameters)]),
        "license": shown.license,
        "parameters": "\n".join(parameters),
        "template": shown.template,
        "details": _details(model.format, model.architecture, model.parameters, model.quantization),
        "model_info": metadata | {"general.parameter_count": shown.parameter_count},
        "capabilities": _capabilities(shown),
        "modified_at": rfc3339(model.changed_seconds),
    }


def _capabilities(shown: ModelDetails) -> list[str]:
    """What a client may ask it for, by what its template speaks of."""
    if shown.embeds:
        return ["embedding"]
    thinks = "enable_thinking" in shown.template or "<think>" in shown.template
    further = {"tools": "tools" in shown.template, "thinking": thinks}
    return ["completion", *(name for name, has in further.items() if has)]


def _details(form: str, architecture: str, parameters: str, quantization: str) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": form,
        "family": architecture,
        "families": [architecture] if architecture else [],
        "parameter_size": parameters.replace(" ", ""),
        "quantization_level": quantization,
    }


def _hex(digest: str) -> str:
    return digest.partition(":")[2] or digest
