"""Ollama's door: `/api/chat`, `/api/generate` and `/api/embed`, as JSON lines or whole."""

import json
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from qwenctl import __version__
from qwenctl.api import ollama_library
from qwenctl.api.choices import Said, answers
from qwenctl.api.exchange import EventStream, answering, json_response, read_as, unless_disconnected
from qwenctl.api.host import ModelHost, keep_alive_seconds
from qwenctl.api.library import Library, Residents
from qwenctl.api.ollama_errors import LINES, failed, lines, now, refusal
from qwenctl.api.ollama_wire import SECOND, ChatCall, EmbedCall, GenerateCall, Timing
from qwenctl.api.openai_forms import likelihoods
from qwenctl.errors import Conflict
from qwenctl.runtime.answers import Call, Content, Part, Reasoning
from qwenctl.runtime.events import Finished, TokenLogprob

Frame = Callable[[str, str, Sequence[Call]], dict[str, Any]]
"""The fields that carry reasoning, text and calls: a message in a chat, `response` in a completion."""


def routes(host: ModelHost, residents: Residents, library: Library | None) -> list[Route]:
    """The routes under `/api`, and the word at `/` that clients look for before they go on.

    Without a library there are those alone that run a model.
    """
    return [
        Route("/", _running, methods=["GET"]),
        Route("/api/version", _version, methods=["GET"]),
        *_Generating(host, residents, library).routes(),
        *(ollama_library.routes(residents, library) if library is not None else ()),
    ]


async def _running(_: Request) -> Response:
    return PlainTextResponse("qwenctl is running")


async def _version(_: Request) -> Response:
    return json_response({"version": __version__})


class _Generating:
    """The endpoints that run a model."""

    def __init__(self, host: ModelHost, residents: Residents, library: Library | None) -> None:
        self._host, self._residents, self._library = host, residents, library

    def routes(self) -> list[Route]:
        """They, under their paths."""

        @answering(refusal)
        async def chat(request: Request) -> Response:
            return await self._answer(request, await read_as(request, ChatCall), _message)

        @answering(refusal)
        async def generate(request: Request) -> Response:
            return await self._answer(request, await read_as(request, GenerateCall), _response)

        @answering(refusal)
        async def embed(request: Request) -> Response:
            return json_response(await self._embed(request, await read_as(request, EmbedCall)))

        @answering(refusal)
        async def embeddings(request: Request) -> Response:
            answer = await self._embed(request, await read_as(request, EmbedCall))
            return json_response({"embedding": next(iter(answer["embeddings"]), [])})

        return [
            Route("/api/chat", chat, methods=["POST"]),
            Route("/api/generate", generate, methods=["POST"]),
            Route("/api/embed", embed, methods=["POST"]),
            Route("/api/embeddings", embeddings, methods=["POST"]),
        ]

    async def _answer(self, http: Request, call: ChatCall | GenerateCall, frame: Frame) -> Response:
        keep_alive = keep_alive_seconds(call.keep_alive)
        answer = _Answer(call.model, frame)
        if call.says_nothing:
            reason = await unless_disconnected(http, self._load(call.model, call.context_length, keep_alive))
            return json_response(answer.empty(reason))
        asked = call.request((await self._host.find(call.model)).sampling)
        if call.context_length:
            await unless_disconnected(http, self._widen(call.model, call.context_length))
        steps = await answers(
            http,
            self._host,
            call.model,
            [asked],
            keep_alive_seconds=keep_alive,
            may_call=isinstance(call, ChatCall) and bool(call.tools),
            split_reasoning=not (isinstance(call, GenerateCall) and call.raw),
        )
        if call.streams:
            return EventStream(lines(answer.pieces(steps)), LINES, failed)
        return json_response(await unless_disconnected(http, answer.whole(steps)))

    async def _embed(self, http: Request, call: EmbedCall) -> dict[str, Any]:
        begun = time.monotonic()
        keep_alive = keep_alive_seconds(call.keep_alive)
        vectors: list[list[float]] = []
        tokens = 0
        if call.texts:
            embedding = self._host.embed(call.model, call.request(), keep_alive_seconds=keep_alive)
            made = await unless_disconnected(http, embedding)
            vectors = [call.cut(array("f", vector).tolist()) for vector in made.vectors]
            tokens = made.prompt_tokens
        else:
            await unless_disconnected(http, self._load(call.model, None, keep_alive))
        figures = {"total_duration": round((time.monotonic() - begun) * SECOND), "load_duration": 0}
        return {"model": call.model, "embeddings": vectors, **figures, "prompt_eval_count": tokens}

    async def _load(self, name: str, context_length: int | None, keep_alive: float | None) -> str:
        """Loads a model, or lets it go after its requests; which of the two."""
        found = await self._host.find(name)
        if keep_alive != 0:
            if context_length:
                await self._widen(name, context_length)
            await self._residents.load(name, keep_alive_seconds=keep_alive)
            return "load"
        if any(resident.id == found.id for resident in await self._residents.loaded()):
            await self._residents.load(name, keep_alive_seconds=0)
        return "unload"

    async def _widen(self, name: str, context_length: int) -> None:
        """Gives the model this context, or all that it was trained for; one at work stays as it is."""
        found = await self._host.find(name)
        trained = (await self._library.find(name)).context_length if self._library is not None else None
        wanted = min(context_length, trained or context_length)
        has = [item.context_length or 0 for item in await self._residents.loaded() if item.id == found.id]
        if wanted > max(has, default=0):
            with suppress(Conflict):
                await self._residents.load(name, context_length=wanted)


class _Answer:
    """One answer under construction."""

    def __init__(self, model: str, frame: Frame) -> None:
        self._model, self._frame = model, frame
        self._begun = time.monotonic()

    def empty(self, reason: str) -> dict[str, Any]:
        """The answer to a call that only loads a model, or unloads it."""
        return self._head() | {"done": True, "done_reason": reason}

    async def whole(self, steps: AsyncGenerator[Said]) -> dict[str, Any]:
        """The answer in one piece, once it is finished."""
        text, thoughts = "", ""
        calls, logprobs = list[Call](), list[TokenLogprob]()
        async with aclosing(steps):
            async for step in steps:
                logprobs += step.logprobs
                match step.part:
                    case Content():
                        text += step.part.text
                    case Reasoning():
                        thoughts += step.part.text
                    case Call():
                        calls.append(step.part)
                    case Finished():
                        head = self._head(thoughts, text, calls)
                        return self._last(head | _likelihoods(logprobs), step.part)
        raise AssertionError("an engine ends with Finished or an error")

    async def pieces(self, steps: AsyncGenerator[Said]) -> AsyncGenerator[dict[str, Any]]:
        """The answer piece by piece; the last one has the figures."""
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step.part, Finished):
                    yield self._last(self._head() | _likelihoods(step.logprobs), step.part)
                else:
                    yield self._piece(step.part) | {"done": False} | _likelihoods(step.logprobs)

    def _piece(self, part: Part) -> dict[str, Any]:
        match part:
            case Reasoning():
                return self._head(thoughts=part.text)
            case Content():
                return self._head(text=part.text)
            case Call():
                return self._head(calls=[part])

    def _last(self, head: dict[str, Any], event: Finished) -> dict[str, Any]:
        timing = Timing.of(event.reason, event.usage, time.monotonic() - self._begun)
        figures: dict[str, Any] = msgspec.to_builtins(timing)
        return head | {"done": True} | figures

    def _head(self, thoughts: str = "", text: str = "", calls: Sequence[Call] = ()) -> dict[str, Any]:
        return {"model": self._model, "created_at": now()} | self._frame(thoughts, text, calls)


def _likelihoods(logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"logprobs": likelihoods(logprobs)} if logprobs else {}


def _message(thoughts: str, text: str, calls: Sequence[Call]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thoughts:
        message["thinking"] = thoughts
    if calls:
        functions = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in calls]
        message["tool_calls"] = [{"function": function} for function in functions]
    return {"message": message}


def _response(thoughts: str, text: str, _: Sequence[Call]) -> dict[str, Any]:
    return {"response": text} | ({"thinking": thoughts} if thoughts else {})
