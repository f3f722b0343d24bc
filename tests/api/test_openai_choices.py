"""Several answers to one chat, and the likelihoods of tokens, by the public client: streamed and whole."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from qwenctl.api.choices import side_by_side
from qwenctl.errors import GenerationFailed
from qwenctl.runtime.engine import Request
from tests.api.api_builders import ScriptedHost, call

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def by_seed(request: Request) -> Sequence[str]:
    """An answer that tells the seed, character by character."""
    return tuple(f"seed {request.sampling.seed}")


def streamed(chunks: Any) -> tuple[dict[int, str], dict[int, str]]:
    """The texts and the reasons of a stream's choices."""
    texts: dict[int, str] = defaultdict(str)
    reasons: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    return dict(texts), reasons


class TestSeveral:
    """`n` answers."""

    def test_whole(self, client: Any, host: ScriptedHost) -> None:
        """By index, each with its seed; the prompt counts once, the answers all."""
        host.script = by_seed
        answer = client.chat.completions.create(model="tiny", messages=HELLO, n=3, seed=7)
        assert [choice.message.content for choice in answer.choices] == ["seed 7", "seed 8", "seed 9"]
        assert [choice.index for choice in answer.choices] == [0, 1, 2]
        usage = answer.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 9, 16)

    def test_streams_give_the_same(self, client: Any, host: ScriptedHost) -> None:
        """Interleaved, each choice with its end, and one usage for all."""
        host.script = by_seed
        options = {"include_usage": True}
        stream = client.chat.completions.create(
            model="tiny", messages=HELLO, n=3, seed=7, stream=True, stream_options=options
        )
        chunks = list(stream)
        texts, reasons = streamed(chunks)
        assert texts == {0: "seed 7", 1: "seed 8", 2: "seed 9"}
        assert reasons == dict.fromkeys(range(3), "stop")
        assert chunks[-1].usage.completion_tokens == 9

    def test_a_client_that_leaves_cancels_all(self, address: tuple[ScriptedHost, str]) -> None:
        """No answer goes on for nobody."""
        host, url = address
        host.reset()
        host.deltas, host.pause_seconds = ["x"] * 1000, 0.01
        body = call(stream=True, n=3)
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
            lines = (line for line in response.iter_lines() if '"x"' in line)
            for _ in range(6):
                next(lines)
            assert host.running == 3
        assert host.all_closed.wait(2)

    @pytest.mark.parametrize("stream", [False, True])
    def test_one_failure_fails_the_answer(self, client: Any, host: ScriptedHost, stream: bool) -> None:
        """And the others are not gone on with."""
        host.error, host.error_after = GenerationFailed("a decode step failed"), 2
        with pytest.raises(openai.APIError, match="a decode step failed"):
            list(client.chat.completions.create(model="tiny", messages=HELLO, n=2, stream=stream))
        assert host.all_closed.wait(2)


class TestLogprobs:
    """`logprobs` and `top_logprobs`."""

    def test_whole(self, client: Any, host: ScriptedHost) -> None:
        """Each token with its text, its bytes and the likeliest ones at its place."""
        answer = client.chat.completions.create(model="tiny", messages=HELLO, logprobs=True, top_logprobs=2)
        tokens = answer.choices[0].logprobs.content
        assert [token.token for token in tokens] == ["Hel", "lo ", "wörld"]
        assert bytes(tokens[2].bytes) == "wörld".encode()
        assert (tokens[0].logprob, [top.token for top in tokens[0].top_logprobs]) == (-0.5, ["Hel", "1"])

    def test_only_the_tokens_that_come(self, client: Any, host: ScriptedHost) -> None:
        """Without `top_logprobs` there are no alternatives; without `logprobs` there is nothing."""
        answer = client.chat.completions.create(model="tiny", messages=HELLO, logprobs=True)
        assert [token.top_logprobs for token in answer.choices[0].logprobs.content] == [[], [], []]
        answer = client.chat.completions.create(model="tiny", messages=HELLO)
        assert answer.choices[0].logprobs is None

    def test_streams_give_the_same(self, client: Any, host: ScriptedHost) -> None:
        """Each chunk has the tokens that it is made of, also where text was held back for a call."""
        host.deltas = ("Look.", "<tool", "_call>", '{"name": "now"}', "</tool_call>")
        tools = [{"type": "function", "function": {"name": "now"}}]
        asked: dict[str, Any] = {"model": "tiny", "messages": HELLO, "tools": tools, "logprobs": True}
        whole = client.chat.completions.create(**asked).choices[0].logprobs.content
        chunks = client.chat.completions.create(**asked, stream=True)
        rated = [chunk.choices[0].logprobs for chunk in chunks]
        assert [one for logprobs in rated if logprobs for one in logprobs.content] == whole
        assert "".join(one.token for one in whole) == "".join(host.deltas)


def test_reasoning_is_counted(client: Any, host: ScriptedHost) -> None:
    """Streamed or whole, reasoning is a field of its own, and its tokens are counted."""
    host.deltas = ("<think>", "It", " is", "</think>", "\n\nNoon")
    answer = client.chat.completions.create(model="tiny", messages=HELLO)
    message = answer.choices[0].message
    assert (message.reasoning_content, message.content) == ("It is", "Noon")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3
    deltas = [
        c.choices[0].delta for c in client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    ]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "It is"
    assert "".join(delta.content or "" for delta in deltas) == "Noon"


class Source:
    """Streams of numbers that note when they are closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def numbers(self, *values: int, fails: bool = False) -> AsyncGenerator[int]:
        """`values`, then an error if it `fails`, else a wait for ever if there is none."""
        try:
            for value in values:
                yield value
                await asyncio.sleep(0)
            if fails:
                raise GenerationFailed("no")
            if not values:
                await asyncio.Event().wait()
        finally:
            self.closed += 1


def test_each_stream_stays_in_order() -> None:
    """All items come, those of one stream as it had them."""

    async def run() -> list[int]:
        source = Source()
        return [n async for n in side_by_side([source.numbers(1, 2, 3), source.numbers(11, 12)])]

    numbers = asyncio.run(run())
    assert [n for n in numbers if n < 10] == [1, 2, 3]
    assert [n for n in numbers if n > 10] == [11, 12]


@pytest.mark.parametrize("fails", [False, True])
def test_no_stream_is_left_open(fails: bool) -> None:
    """Neither when one fails nor when the caller has enough."""

    async def run() -> int:
        source = Source()
        merged = side_by_side([source.numbers(1, fails=fails), source.numbers(), source.numbers()])
        async with aclosing(merged):
            assert await anext(merged) == 1
            if fails:
                with pytest.raises(GenerationFailed):
                    await anext(merged)
        return source.closed

    assert asyncio.run(run()) == 3
