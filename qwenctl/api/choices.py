"""Several answers to one call, side by side: what each says next, and how likely its tokens were."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request as HttpRequest

from qwenctl.api.exchange import started
from qwenctl.api.host import ModelHost
from qwenctl.api.parts import parts_of
from qwenctl.runtime.answers import Part
from qwenctl.runtime.engine import Request
from qwenctl.runtime.events import Event, Finished, TextDelta, TokenLogprob

T = TypeVar("T")


class Said(msgspec.Struct, frozen=True):
    """One step of the answer with this index; the last one of each is a `Finished`.

    `tokens` were sampled since the step before, whatever they became: text, reasoning, or a call; `logprobs`
    has one value for each of them if the request asked for it.
    """

    index: int
    part: Part | Finished
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


async def answers(
    http: HttpRequest,
    host: ModelHost,
    model: str,
    requests: Sequence[Request],
    *,
    keep_alive_seconds: float | None,
    may_call: bool,
    split_reasoning: bool,
    one_call: bool = False,
) -> AsyncGenerator[Said]:
    """The answers to `requests`, interleaved as they are made; the first has begun when this returns.

    The others begin after it, so that a prompt they share is in the KV cache by then. Closing cancels all,
    and so does the failure of one. Raises: as `ModelHost.generate`; ClientDisconnect.
    """
    streams = [host.generate(model, one, keep_alive_seconds=keep_alive_seconds) for one in requests]
    streams[0] = await started(http, streams[0])
    steps = [
        _steps(index, events, may_call=may_call, split_reasoning=split_reasoning, one_call=one_call)
        for index, events in enumerate(streams)
    ]
    return steps[0] if len(steps) == 1 else side_by_side(steps)


async def side_by_side(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """The items of all `streams` as they come, each stream's in order; owns the streams.

    Raises: what the first that fails raises; the others are closed then.
    """
    arrivals: asyncio.Queue[T | _End] = asyncio.Queue(len(streams))
    tasks = [asyncio.create_task(_pump(stream, arrivals)) for stream in streams]
    running = len(tasks)
    try:
        while running:
            item = await arrivals.get()
            if not isinstance(item, _End):
                yield item
                continue
            if item.error is not None:
                raise item.error
            running -= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in streams:
            await stream.aclose()  # those whose task was cancelled before it began


@dataclass(frozen=True, slots=True)
class _End:
    """A stream is over."""

    error: Exception | None = None


async def _pump(stream: AsyncGenerator[T], arrivals: "asyncio.Queue[T | _End]") -> None:
    end = _End()
    try:
        async with aclosing(stream):
            async for item in stream:
                await arrivals.put(item)
    except Exception as error:  # noqa: BLE001 - raised again on the other side of the queue
        end = _End(error)
    await arrivals.put(end)


@dataclass(slots=True)
class _Tally:
    """What was sampled since the last step."""

    tokens: int = 0
    logprobs: tuple[TokenLogprob, ...] = ()


async def _steps(
    index: int, events: AsyncGenerator[Event], *, may_call: bool, split_reasoning: bool, one_call: bool
) -> AsyncGenerator[Said]:
    tally = _Tally()
    parts = parts_of(
        _tallied(events, tally), may_call=may_call, split_reasoning=split_reasoning, one_call=one_call
    )
    async with aclosing(parts):
        async for part in parts:
            tokens, logprobs = tally.tokens, tally.logprobs
            tally.tokens, tally.logprobs = 0, ()
            yield Said(index, part, tokens, logprobs)


async def _tallied(events: AsyncGenerator[Event], tally: _Tally) -> AsyncGenerator[Event]:
    """`events` again, while what was sampled for them is added up."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                tally.tokens += event.tokens
                tally.logprobs += event.logprobs
            yield event
