"""The client of the engine benchmark: streamed chats over bare sockets, at the same cost for each server."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.measured import RunFailed

Turn = dict[str, str]
_CONTENT = b'"content":"'


@dataclass(frozen=True, slots=True)
class Answer:
    """One streamed answer. `first_seconds` is the time until the first piece of text came."""

    first_seconds: float
    total_seconds: float
    completion_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Load:
    """Conversations side by side: each of the `lanes` asks its own one after the other."""

    lanes: Sequence[Sequence[Sequence[Turn]]]
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a load took, in all; the answers lane after lane."""

    wall_seconds: float
    answers: Sequence[Answer]

    @property
    def tokens(self) -> int:
        """Sampled tokens of all answers."""
        return sum(answer.completion_tokens for answer in self.answers)


def run_load(port: int, model: str, load: Load) -> Outcome:
    """Asks everything of `load`. Raises: RunFailed for an answer that is none."""
    return asyncio.run(_run_load(port, model, load))


async def _run_load(port: int, model: str, load: Load) -> Outcome:
    async def lane(conversations: Sequence[Sequence[Turn]]) -> list[Answer]:
        return [await _ask(port, model, turns, load.options) for turns in conversations]

    start = time.perf_counter()
    lanes = await asyncio.gather(*(lane(conversations) for conversations in load.lanes))
    return Outcome(time.perf_counter() - start, [answer for answers in lanes for answer in answers])


async def _ask(port: int, model: str, turns: Sequence[Turn], options: dict[str, Any]) -> Answer:
    call = {"model": model, "messages": turns, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(call | options).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(head.encode() + body)
        if b" 200 " not in await reader.readline():
            raise RunFailed(f"refused: {(await reader.read())[-400:].decode(errors='replace')}")
        await reader.readuntil(b"\r\n\r\n")
        return await _read_events(reader, start)
    finally:
        writer.close()


async def _read_events(reader: asyncio.StreamReader, start: float) -> Answer:
    first, events = 0.0, bytearray()
    while size := int(await reader.readline(), 16):
        piece = await reader.readexactly(size)
        events += piece
        await reader.readexactly(2)
        if not first and _CONTENT in piece and piece.count(_CONTENT) > piece.count(_CONTENT + b'"'):
            first = time.perf_counter() - start
    total = time.perf_counter() - start
    lines = (line[6:] for line in bytes(events).split(b"\n") if line.startswith(b"data: {"))
    chunks = [json.loads(line) for line in lines]
    usages = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    if not usages:
        raise RunFailed(f"an answer without its end: {bytes(events[-400:]).decode(errors='replace')}")
    deltas = (choice["delta"] for chunk in chunks for choice in chunk["choices"])
    text = "".join(delta.get("content") or "" for delta in deltas)
    return Answer(first or total, total, usages[-1]["completion_tokens"], text)
