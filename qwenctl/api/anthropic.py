"""Anthropic's door: `/v1/messages` with its count of tokens, streamed (server-sent events) or whole.

`/v1/models` is shared with OpenAI's door: a request with the header `anthropic-version` is answered here.
"""

import json
import secrets
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import aclosing
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from qwenctl.api.anthropic_wire import MessagesCall
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, started, unless_disconnected
from qwenctl.api.failures import http_status
from qwenctl.api.host import ModelHost, ServedModel, keep_alive_seconds
from qwenctl.api.ollama_errors import rfc3339
from qwenctl.api.parts import parts_of
from qwenctl.errors import InvalidRequest, QwenctlError, ReferenceUnknown
from qwenctl.runtime.answers import Call, Content, Part, Reasoning
from qwenctl.runtime.events import Event, Finished, PromptProcessed, Usage

_VERSION_HEADER: Final = b"anthropic-version"

# Source: Anthropic API reference, "Errors".
_ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def routes(host: ModelHost, *, alone: bool = False) -> list[Route]:
    """The routes under `/v1`; they come before OpenAI's. Where they are `alone`, models are for anybody."""
    models_route = Route if alone else _VersionedRoute

    @answering(refusal)
    async def messages(request: Request) -> Response:
        call = await read_as(request, MessagesCall)
        if call.max_tokens is None:
            raise InvalidRequest("`max_tokens` is missing", hint="say how long the answer may be")
        asked = call.request((await _find(host, call.model)).sampling)
        keep_alive = keep_alive_seconds(call.keep_alive)
        answer = _Answer(call)
        events = answer.noting(host.generate(call.model, asked, keep_alive_seconds=keep_alive))
        parts = parts_of(await started(request, events), may_call=call.may_call, one_call=call.one_call)
        if call.stream:
            return EventStream(answer.chunks(parts), "text/event-stream", _failed)
        return json_response(await unless_disconnected(request, answer.whole(parts)))

    @answering(refusal)
    async def count_tokens(request: Request) -> Response:
        call = await read_as(request, MessagesCall)
        asked = call.request((await _find(host, call.model)).sampling)
        counting = host.count_tokens(call.model, asked)
        return json_response({"input_tokens": await unless_disconnected(request, counting)})

    @answering(refusal)
    async def models(_: Request) -> Response:
        listed = [_listed(model) for model in await host.models()]
        ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
        return json_response({"data": listed, "has_more": False, "first_id": None, "last_id": None} | ends)

    @answering(refusal)
    async def model(request: Request) -> Response:
        return json_response(_listed(await _find(host, request.path_params["name"])))

    return [
        Route("/v1/messages", messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
        models_route("/v1/models", models, methods=["GET"]),
        models_route("/v1/models/{name:path}", model, methods=["GET"]),
    ]


class _VersionedRoute(Route):
    """A route for those alone who name the version of Anthropic's API that they speak."""

    def matches(self, scope: MutableMapping[str, Any]) -> tuple[Match, MutableMapping[str, Any]]:
        return super().matches(scope) if is_versioned(scope) else (Match.NONE, {})


def is_versioned(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request names a version of Anthropic's API, as its clients do."""
    return any(name == _VERSION_HEADER for name, _ in scope["headers"])


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it."""
    return json_response(_error_body(error), http_status(error))


async def _find(host: ModelHost, name: str) -> ServedModel:
    """The model of this name. Names of Anthropic's models stand for none of ours."""
    try:
        return await host.find(name)
    except ReferenceUnknown as error:
        if not name.lower().startswith("claude"):
            raise
        here = ", ".join(f"`{model.name}`" for model in (await host.models())[:3])
        where = f"such as {here}" if here else "once one is pulled"
        hint = f"give the program the name of a model that is here, {where} (ANTHROPIC_MODEL in many)"
        raise ReferenceUnknown(f"`{name}` runs at Anthropic alone", hint=hint) from error


class _Answer:
    """One answer under construction: its blocks, one after the other."""

    def __init__(self, call: MessagesCall) -> None:
        self._call = call
        self._id = f"msg_{secrets.token_hex(12)}"
        self._prompt = PromptProcessed(0, 0, 0.0)
        self._index = -1
        self._open: str | None = None
        self._called = False

    async def noting(self, events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        """`events` again; what the prompt cost is kept for the first event of the stream."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, PromptProcessed):
                    self._prompt = event
                yield event

    async def whole(self, parts: AsyncGenerator[Part | Finished]) -> dict[str, Any]:
        """The message in one piece, once it is finished."""
        content: list[dict[str, Any]] = []
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case Finished():
                        end = self._end(part) | {"content": content, "usage": _usage(part.usage)}
                        return self._head() | end
                    case Call():
                        self._called = True
                        content.append(_call_block(part) | {"input": json.loads(part.arguments)})
                    case Content() | Reasoning():
                        self._add(content, part)
        raise AssertionError("an engine ends with Finished or an error")

    def _add(self, content: list[dict[str, Any]], part: Content | Reasoning) -> None:
        block, field = self._block(part), _FIELDS[type(part)]
        if content and content[-1]["type"] == block["type"]:
            content[-1][field] += part.text
        else:
            content.append(block | {field: part.text})

    async def chunks(self, parts: AsyncGenerator[Part | Finished]) -> AsyncGenerator[bytes]:
        """The message as server-sent events."""
        prompt = Usage(self._prompt.prompt_tokens, 0, self._prompt.cached_tokens, 0.0, 0.0)
        async with aclosing(parts):
            message = self._head() | {"content": [], "usage": _usage(prompt)}
            yield _sent("message_start", message=message)
            yield _sent("ping")
            async for part in parts:
                for frame in self._frames(part):
                    yield frame

    def _frames(self, part: Part | Finished) -> Iterator[bytes]:
        match part:
            case Finished():
                yield from self._close()
                yield _sent("message_delta", delta=self._end(part), usage=_usage(part.usage))
                yield _sent("message_stop")
            case Call():
                self._called = True
                yield from self._begin(_call_block(part) | {"input": {}})
                yield self._delta("input_json_delta", partial_json=part.arguments)
            case Content() | Reasoning():
                block = self._block(part)
                if self._open != block["type"]:
                    yield from self._begin(block)
                field = _FIELDS[type(part)]
                yield self._delta(f"{field}_delta", **{field: part.text})

    def _begin(self, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        self._index += 1
        self._open = block["type"]
        yield _sent("content_block_start", index=self._index, content_block=block)

    def _close(self) -> Iterator[bytes]:
        if self._open == "thinking":  # clients keep no thinking without one
            yield self._delta("signature_delta", signature=self._id)
        if self._open is not None:
            yield _sent("content_block_stop", index=self._index)
        self._open = None

    def _delta(self, kind: str, **fields: str) -> bytes:
        return _sent("content_block_delta", index=self._index, delta={"type": kind, **fields})

    def _block(self, part: Content | Reasoning) -> dict[str, Any]:
        """The block that `part` begins. Its signature is nobody's proof: we take any back."""
        if isinstance(part, Content):
            return {"type": "text", "text": ""}
        return {"type": "thinking", "thinking": "", "signature": "" if self._call.stream else self._id}

    def _head(self) -> dict[str, Any]:
        named = {"id": self._id, "type": "message", "role": "assistant", "model": self._call.model}
        return named | {"stop_reason": None, "stop_sequence": None}

    def _end(self, event: Finished) -> dict[str, Any]:
        stop = event.stop if event.stop in (self._call.stop_sequences or ()) else None
        if event.reason == "length":
            reason = "max_tokens"
        elif stop is not None:
            reason = "stop_sequence"
        else:
            reason = "tool_use" if self._called else "end_turn"
        return {"stop_reason": reason, "stop_sequence": stop}


_FIELDS: Final[dict[type, str]] = {Content: "text", Reasoning: "thinking"}


def _call_block(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": call.name}


def _usage(usage: Usage) -> dict[str, int]:
    """What was in the KV cache already is not counted as input there."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _listed(model: ServedModel) -> dict[str, Any]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": rfc3339(model.created_seconds),
        "lifecycle": "active",
    }


def _sent(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"


def _failed(error: QwenctlError) -> bytes:
    """`error` as the last event of a stream."""
    return _sent("error", error=_error_body(error)["error"])


def _error_body(error: QwenctlError) -> dict[str, Any]:
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    kind = _ERROR_TYPES.get(http_status(error), "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}
