"""OpenAI's responses, streamed (server-sent events) or whole, and those that are kept for the next turn."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from qwenctl.api.choices import Said, answers
from qwenctl.api.exchange import (
    EventStream,
    answering,
    json_response,
    read_as,
    read_query,
    unless_disconnected,
)
from qwenctl.api.host import ModelHost, keep_alive_seconds
from qwenctl.api.openai_errors import refusal, sent
from qwenctl.api.openai_responses_events import Json, ResponseWriter
from qwenctl.api.openai_responses_memory import KeptResponse, ResponseMemory
from qwenctl.api.openai_responses_wire import Item, ResponsesCall
from qwenctl.errors import InvalidRequest, NotFound, QwenctlError
from qwenctl.runtime.engine import ChatRequest


class ItemsQuery(msgspec.Struct, frozen=True):
    """Which items of a conversation are asked for. Source: OpenAI API reference, "List input items"."""

    order: Literal["asc", "desc"] = "desc"
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    after: str | None = None


def routes(host: ModelHost) -> list[Route]:
    """The routes of responses, with a memory of their own."""
    memory = ResponseMemory()

    async def read(http: Request) -> tuple[ResponsesCall, tuple[Item, ...], ChatRequest]:
        """The call, the conversation before it, and what the engine is asked."""
        call = await read_as(http, ResponsesCall)
        before = _before(memory, call.previous_response_id)
        return call, before, call.request(before, (await host.find(call.model)).sampling)

    @answering(refusal)
    async def create(http: Request) -> Response:
        call, before, asked = await read(http)
        steps = await answers(
            http,
            host,
            call.model,
            [asked],
            keep_alive_seconds=keep_alive_seconds(call.keep_alive),
            may_call=call.may_call,
            split_reasoning=True,
            one_call=call.parallel_tool_calls is False,
        )
        answer = _Answer(call, before, asked, memory)
        if call.stream:
            return EventStream(answer.frames(steps), "text/event-stream", answer.failed)
        return json_response(await unless_disconnected(http, answer.whole(steps)))

    @answering(refusal)
    async def count(http: Request) -> Response:
        call, _, asked = await read(http)
        tokens = await unless_disconnected(http, host.count_tokens(call.model, asked))
        return json_response({"object": "response.input_tokens", "input_tokens": tokens})

    @answering(refusal)
    async def retrieve(http: Request) -> Response:
        if http.query_params.get("stream") == "true":
            raise InvalidRequest("`stream` is not supported for a response that is over", hint="leave it out")
        return Response(memory.find(http.path_params["id"]).body, media_type="application/json")

    @answering(refusal)
    async def input_items(http: Request) -> Response:
        query = read_query(http.query_params, ItemsQuery)
        return json_response(_page(memory.find(http.path_params["id"]), query))

    @answering(refusal)
    async def delete(http: Request) -> Response:
        memory.forget(http.path_params["id"])
        return json_response({"id": http.path_params["id"], "object": "response", "deleted": True})

    return [
        Route("/v1/responses", create, methods=["POST"]),
        Route("/v1/responses/input_tokens", count, methods=["POST"]),
        Route("/v1/responses/{id}", retrieve, methods=["GET"]),
        Route("/v1/responses/{id}", delete, methods=["DELETE"]),
        Route("/v1/responses/{id}/input_items", input_items, methods=["GET"]),
    ]


def _before(memory: ResponseMemory, id: str | None) -> tuple[Item, ...]:
    """The conversation that a call goes on with. Raises: InvalidRequest."""
    if id is None:
        return ()
    try:
        return memory.find(id).conversation
    except NotFound as error:
        raise InvalidRequest(f"`previous_response_id`: {error.message}", hint=error.hint) from error


class _Answer:
    """The answer to one call under construction."""

    def __init__(
        self, call: ResponsesCall, before: tuple[Item, ...], asked: ChatRequest, memory: ResponseMemory
    ) -> None:
        self._call, self._before, self._memory = call, before, memory
        self._writer = ResponseWriter(call.echoed(asked), int(time.time()))

    async def whole(self, steps: AsyncGenerator[Said]) -> Json:
        """The response in one piece, once it is finished."""
        async with aclosing(steps):
            async for said in steps:
                self._writer.add(said)
        self._keep()
        return self._writer.response

    async def frames(self, steps: AsyncGenerator[Said]) -> AsyncGenerator[bytes]:
        """The events of the response."""
        async with aclosing(steps):
            for event in self._writer.begin():
                yield _frame(event)
            async for said in steps:
                events = self._writer.add(said)
                if self._writer.finished:
                    self._keep()  # before the client can ask for it
                yield b"".join(map(_frame, events))

    def failed(self, error: QwenctlError) -> bytes:
        """The last events of a response that failed under way."""
        return b"".join(map(_frame, self._writer.fail(error)))

    def _keep(self) -> None:
        if self._call.store is False:
            return
        answer = msgspec.convert(self._writer.output, tuple[Item, ...])
        said = self._call.items
        body = msgspec.json.encode(self._writer.response)
        self._memory.keep(KeptResponse(self._writer.id, body, said, (*self._before, *said, *answer)))


def _frame(event: Json) -> bytes:
    return f"event: {event['type']}\n".encode() + sent(event)


def _page(kept: KeptResponse, query: ItemsQuery) -> Json:
    """What the client said in a kept response's call, a part of it. Raises: InvalidRequest."""
    items: list[Json] = [
        {"id": f"item_{number}", "type": "message"} | msgspec.to_builtins(item)
        for number, item in enumerate(kept.input)
    ]
    ordered = items if query.order == "asc" else items[::-1]
    ids = [item["id"] for item in ordered]
    if query.after is not None and query.after not in ids:
        raise InvalidRequest("`after` is no item of this response")
    rest = ordered if query.after is None else ordered[ids.index(query.after) + 1 :]
    page = rest[: query.limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rest) > len(page),
    }
