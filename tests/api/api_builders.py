"""A host of scripted models, its doors on a real port, and requests to it."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.routing import BaseRoute, Router

from qwenctl.api import openai
from qwenctl.errors import ReferenceUnknown
from qwenctl.runtime.engine import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    Message,
    Request,
    RerankRequest,
    Scores,
)
from qwenctl.runtime.events import (
    Event,
    Finished,
    FinishReason,
    Likelihood,
    PromptProcessed,
    TextDelta,
    TokenLogprob,
    Usage,
)
from qwenctl.runtime.scripted import ScriptedEngine

USAGE = Usage(
    prompt_tokens=7, completion_tokens=3, cached_tokens=2, prompt_seconds=0.1, completion_seconds=0.2
)


@dataclass(frozen=True)
class Served:
    """A model by name alone."""

    name: str
    id: str = "sha256:" + "1" * 64
    created_seconds: int = 1700000000
    sampling: Mapping[str, float] = field(default_factory=dict)


class ScriptedHost:
    """A `ModelHost` with one model, `tiny`, that says `deltas`; it remembers what it was asked.

    With a `script` the deltas are made from the request. Each delta is one token, whose logarithm is -0.5.
    """

    def __init__(self) -> None:
        self._engine = ScriptedEngine()
        self.reset()

    def reset(self) -> None:
        """As it was made: a short answer without trouble."""
        self.deltas: Sequence[str] = ("Hel", "lo ", "wörld")
        self.script: Callable[[Request], Sequence[str]] | None = None
        self.reason: FinishReason = "stop"
        self.stop: str | None = None
        self.error: Exception | None = None
        self.error_after = 0
        self.pause_seconds = 0.0
        self.sampling: Mapping[str, float] = {}
        self.asked: list[tuple[Request, float | None]] = []
        self.embedded: list[EmbedRequest] = []
        self.running = 0
        self.closed = threading.Event()
        self.all_closed = threading.Event()

    async def models(self) -> Sequence[Served]:
        """See `ModelHost`."""
        return [Served("tiny", sampling=self.sampling), Served("me/other:7B")]

    async def find(self, name: str) -> Served:
        """See `ModelHost`."""
        for model in await self.models():
            if model.name == name:
                return model
        raise ReferenceUnknown(f"`{name}` is not here", hint="pull it first")

    async def generate(
        self, name: str, request: Request, *, keep_alive_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """See `ModelHost`."""
        closed, all_closed = self.closed, self.all_closed  # a late end must not reach the next test
        self.running += 1
        self.asked.append((request, keep_alive_seconds))
        try:
            await self.find(name)
            if self.error is not None and not self.error_after:
                raise self.error
            yield PromptProcessed(USAGE.prompt_tokens, USAGE.cached_tokens, USAGE.prompt_seconds)
            for number, text in enumerate(self.script(request) if self.script else self.deltas, 1):
                yield TextDelta(text, 1, _logprobs(text, request.top_logprobs))
                await asyncio.sleep(self.pause_seconds)
                if self.error is not None and self.error_after == number:
                    raise self.error
            yield Finished(self.reason, USAGE, self.stop)
        finally:
            closed.set()
            self.running -= 1
            if not self.running:
                all_closed.set()

    async def count_tokens(self, name: str, request: Request) -> int:
        """See `ModelHost`: one token is one character."""
        await self.find(name)
        return self._engine.count_tokens(request)

    async def embed(
        self, name: str, request: EmbedRequest, *, keep_alive_seconds: float | None = None
    ) -> Embeddings:
        """See `ModelHost`: as `ScriptedEngine` does."""
        await self.find(name)
        self.embedded.append(request)
        if self.error is not None:
            raise self.error
        return self._engine.embed(request)

    async def rerank(
        self, name: str, request: RerankRequest, *, keep_alive_seconds: float | None = None
    ) -> Scores:
        """See `ModelHost`: as `ScriptedEngine` does."""
        await self.find(name)
        if self.error is not None:
            raise self.error
        return self._engine.rerank(request)

    @property
    def request(self) -> ChatRequest:
        """What it was asked last."""
        request = self.asked[-1][0]
        assert isinstance(request, ChatRequest)
        return request


def _logprobs(text: str, top: int | None) -> tuple[TokenLogprob, ...]:
    if top is None:
        return ()
    chosen = Likelihood(len(text), text.encode(), -0.5)
    others = tuple(Likelihood(n, b"%d" % n, -0.5 - n) for n in range(1, top))
    return (TokenLogprob(chosen, (chosen, *others)[:top]),)


@contextmanager
def doors(host: ScriptedHost, *others: BaseRoute) -> Iterator[str]:
    """The address of a real server, in a thread, with any `others`, and OpenAI's door over `host`."""
    app = Router([*others, *openai.routes(host)])
    config = uvicorn.Config(
        app, port=0, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def call(text: str = "hi", /, **fields: Any) -> dict[str, Any]:
    """The body of a chat completion with one message."""
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], **fields}


def sse(body: str) -> list[Any]:
    """The events of a stream, decoded; `[DONE]` stays as it is."""
    frames = body.split("\n\n")
    assert frames[-1] == ""
    texts = [frame.removeprefix("data: ") for frame in frames[:-1]]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def user(text: str) -> Message:
    """A message of the user."""
    return Message("user", text)
