"""OpenAI's door: `/v1/models` and `/v1/chat/completions`, streamed (server-sent events) or whole."""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import msgspec
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from qwenctl.api.exchange import (
    EventStream,
    answering,
    blamed_field,
    json_response,
    read_as,
    started,
    unless_disconnected,
)
from qwenctl.api.failures import http_status
from qwenctl.api.host import ModelHost, ServedModel, keep_alive_seconds
from qwenctl.api.openai_wire import (
    AnswerMessage,
    AnswerToolCall,
    CalledFunction,
    ChatCompletion,
    ChatCompletionCall,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    ErrorBody,
    ErrorDetail,
    ModelList,
    ModelObject,
    UsageBlock,
    finish_reason,
)
from qwenctl.api.parts import parts_of
from qwenctl.errors import PromptTooLong, QwenctlError, ReferenceUnknown
from qwenctl.runtime.answers import Content, Part
from qwenctl.runtime.events import Finished

# Clients compare these two with the API's own words.
_CODES: Final = {ReferenceUnknown.code: "model_not_found", PromptTooLong.code: "context_length_exceeded"}


def routes(host: ModelHost) -> list[BaseRoute]:
    """The routes under `/v1`."""

    @answering(refusal)
    async def models(_: Request) -> Response:
        return json_response(ModelList(data=tuple(map(_model_object, await host.models()))))

    @answering(refusal)
    async def model(request: Request) -> Response:
        return json_response(_model_object(await host.find(request.path_params["name"])))

    @answering(refusal)
    async def chat_completions(request: Request) -> Response:
        call = await read_as(request, ChatCompletionCall)
        keep_alive = keep_alive_seconds(call.keep_alive)
        request_ = call.request((await host.find(call.model)).sampling)
        events = host.generate(call.model, request_, keep_alive_seconds=keep_alive)
        answer = _Answer(call.model)
        if not call.stream:
            parts = parts_of(events, may_call=call.may_call)
            return json_response(await unless_disconnected(request, answer.whole(parts)))
        parts = parts_of(await started(request, events), may_call=call.may_call)
        chunks = answer.chunks(parts, call.wants_usage)
        return EventStream(chunks, "text/event-stream")

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/v1/models/{name:path}", model, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    ]


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it."""
    return json_response(_error_body(error), http_status(error))


class _Answer:
    """One answer under construction: the values that all of its parts share."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._calls = 0
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())

    async def whole(self, parts: AsyncGenerator[Part | Finished]) -> ChatCompletion:
        """The answer in one piece, once it is finished."""
        deltas: list[Delta] = []
        async with aclosing(parts):
            async for part in parts:
                if not isinstance(part, Finished):
                    deltas.append(self._delta(part))
                    continue
                choice = Choice(_whole(deltas), finish_reason(part.reason, self._calls > 0))
                return ChatCompletion(
                    id=self._id,
                    created=self._created,
                    model=self._model,
                    choices=(choice,),
                    usage=UsageBlock.of(part.usage),
                )
        raise AssertionError("an engine ends with Finished or an error")

    async def chunks(self, parts: AsyncGenerator[Part | Finished], with_usage: bool) -> AsyncGenerator[bytes]:
        """The answer as server-sent events; a failure under way is the last of them."""
        async with aclosing(parts):
            try:
                yield _sent(self._chunk(Delta(role="assistant", content="")))
                async for part in parts:
                    if isinstance(part, Finished):
                        yield self._end(part, with_usage)
                    else:
                        yield _sent(self._chunk(self._delta(part)))
            except QwenctlError as error:
                yield _sent(_error_body(error))

    def _end(self, event: Finished, with_usage: bool) -> bytes:
        frames = [_sent(self._chunk(Delta(), finish_reason(event.reason, self._calls > 0)))]
        if with_usage:
            usage = UsageBlock.of(event.usage)
            frames.append(
                _sent(Chunk(id=self._id, created=self._created, model=self._model, choices=(), usage=usage))
            )
        return b"".join([*frames, b"data: [DONE]\n\n"])

    def _delta(self, part: Part) -> Delta:
        if isinstance(part, Content):
            return Delta(content=part.text)
        call = AnswerToolCall(
            id=f"call_{secrets.token_hex(12)}",
            function=CalledFunction(part.name, part.arguments),
            index=self._calls,
        )
        self._calls += 1
        return Delta(tool_calls=(call,))

    def _chunk(self, delta: Delta, reason: str | None = None) -> Chunk:
        choice = ChunkChoice(delta, reason)
        return Chunk(id=self._id, created=self._created, model=self._model, choices=(choice,))


def _whole(deltas: list[Delta]) -> AnswerMessage:
    """The message that the deltas make."""
    text = "".join(delta.content or "" for delta in deltas)
    calls = tuple(replace(call, index=msgspec.UNSET) for delta in deltas for call in delta.tool_calls or ())
    return AnswerMessage(text or None, tool_calls=calls) if calls else AnswerMessage(text)


def _sent(value: Chunk | ErrorBody) -> bytes:
    # JSON text holds no line break, so one `data` line carries it. Source: HTML standard, 9.2.6.
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _model_object(model: ServedModel) -> ModelObject:
    return ModelObject(id=model.name, created=model.created_seconds)


def _error_body(error: QwenctlError) -> ErrorBody:
    return ErrorBody(
        ErrorDetail(
            message=error.message,
            type="invalid_request_error" if http_status(error) < 500 else "server_error",
            param=blamed_field(error),
            code=_CODES.get(error.code, error.code),
            hint=error.hint or msgspec.UNSET,
        )
    )
