"""Ollama's door: `/api/chat`, `/api/generate`, `/api/tags` and `/api/version`, as JSON lines or whole.

What Ollama would do to its own store (pull, create, delete, copy, push) is not offered: `qwenctl` does it.
"""

import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qwenctl import __version__
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, started, unless_disconnected
from qwenctl.api.failures import http_status
from qwenctl.api.host import ModelHost, ServedModel, keep_alive_seconds
from qwenctl.api.ollama_wire import ChatCall, GenerateCall, ListedModel, ModelList, Timing
from qwenctl.api.parts import parts_of
from qwenctl.errors import QwenctlError
from qwenctl.runtime.answers import Call, Content, Part
from qwenctl.runtime.events import Finished

_LINES: Final = "application/x-ndjson"

Said = Callable[[str, Sequence[Call]], dict[str, Any]]
"""The fields that carry text and calls: a message in a chat, `response` in a completion."""


def routes(host: ModelHost) -> list[BaseRoute]:
    """The routes under `/api`."""

    @answering(refusal)
    async def version(_: Request) -> Response:
        return json_response({"version": __version__})

    @answering(refusal)
    async def tags(_: Request) -> Response:
        return json_response(ModelList(tuple(map(_listed, await host.models()))))

    async def answered(request: Request, call: ChatCall | GenerateCall, said: Said) -> Response:
        keep_alive = keep_alive_seconds(call.keep_alive)
        asked = call.request((await host.find(call.model)).sampling)
        events = host.generate(call.model, asked, keep_alive_seconds=keep_alive)
        may_call = isinstance(call, ChatCall) and bool(call.tools)
        answer = _Answer(call.model, said)
        if not call.streams:
            whole = answer.whole(parts_of(events, may_call=may_call))
            return json_response(await unless_disconnected(request, whole))
        lines = answer.lines(parts_of(await started(request, events), may_call=may_call))
        return EventStream(lines, _LINES)

    @answering(refusal)
    async def chat(request: Request) -> Response:
        return await answered(request, await read_as(request, ChatCall), _message)

    @answering(refusal)
    async def generate(request: Request) -> Response:
        return await answered(request, await read_as(request, GenerateCall), _response)

    return [
        Route("/api/version", version, methods=["GET"]),
        Route("/api/tags", tags, methods=["GET"]),
        Route("/api/chat", chat, methods=["POST"]),
        Route("/api/generate", generate, methods=["POST"]),
    ]


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it."""
    return json_response(_error_body(error), http_status(error))


class _Answer:
    """One answer under construction."""

    def __init__(self, model: str, said: Said) -> None:
        self._model, self._said = model, said
        self._begun = time.monotonic()

    async def whole(self, parts: AsyncGenerator[Part | Finished]) -> dict[str, Any]:
        """The answer in one piece, once it is finished."""
        text, calls = "", list[Call]()
        async with aclosing(parts):
            async for part in parts:
                if isinstance(part, Content):
                    text += part.text
                elif isinstance(part, Call):
                    calls.append(part)
                else:
                    return self._last(text, calls, part)
        raise AssertionError("an engine ends with Finished or an error")

    async def lines(self, parts: AsyncGenerator[Part | Finished]) -> AsyncGenerator[bytes]:
        """The answer line by line; a failure under way is the last of them."""
        async with aclosing(parts):
            try:
                async for part in parts:
                    if isinstance(part, Finished):
                        yield _line(self._last("", (), part))
                    else:
                        said = self._head(part.text) if isinstance(part, Content) else self._head("", [part])
                        yield _line(said | {"done": False})
            except QwenctlError as error:
                yield _line(_error_body(error))

    def _last(self, text: str, calls: Sequence[Call], event: Finished) -> dict[str, Any]:
        timing = Timing.of(event.reason, event.usage, time.monotonic() - self._begun)
        figures: dict[str, Any] = msgspec.to_builtins(timing)
        return self._head(text, calls) | {"done": True} | figures

    def _head(self, text: str, calls: Sequence[Call] = ()) -> dict[str, Any]:
        said = self._said(text, calls)
        return {"model": self._model, "created_at": _rfc3339(datetime.now(UTC))} | said


def _message(text: str, calls: Sequence[Call]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        functions = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in calls]
        message["tool_calls"] = [{"function": function} for function in functions]
    return {"message": message}


def _response(text: str, _: Sequence[Call]) -> dict[str, Any]:
    return {"response": text}


def _listed(model: ServedModel) -> ListedModel:
    created = datetime.fromtimestamp(model.created_seconds, UTC)
    digest = model.id.partition(":")[2] or model.id
    return ListedModel(name=model.name, model=model.name, modified_at=_rfc3339(created), digest=digest)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _error_body(error: QwenctlError) -> dict[str, Any]:
    return {"error": f"{error.message}; {error.hint}" if error.hint else error.message}
