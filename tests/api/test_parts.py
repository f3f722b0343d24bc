"""Events as the parts of an answer."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from qwenctl.api.parts import parts_of
from qwenctl.errors import GenerationFailed
from qwenctl.runtime.answers import Call, Content, Part, Reasoning
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta
from tests.api.api_builders import USAGE

END = Finished("stop", USAGE)


async def events(*texts: str, reasoning: bool = False, error: bool = False) -> AsyncGenerator[Event]:
    """What an engine sends for an answer in these pieces."""
    yield PromptProcessed(7, 2, 0.1, reasoning)
    for text in texts:
        yield TextDelta(text, 1)
    if error:
        raise GenerationFailed("broken")
    yield END


def parts(source: AsyncGenerator[Event], **options: bool) -> list[Part | Finished]:
    """All of them."""

    async def collect() -> list[Part | Finished]:
        return [part async for part in parts_of(source, **{"may_call": True, **options})]

    return asyncio.run(collect())


def test_reasoning_text_and_calls() -> None:
    """In their order, and the end last."""
    said = events("<think>hm</think>", "Look.", '<tool_call>{"name": "now"}</tool_call>')
    assert parts(said) == [Reasoning("hm"), Content("Look."), Call("now", "{}"), END]


def test_the_prompt_tells_that_it_opened_the_reasoning() -> None:
    """Then the first text is a thought."""
    assert parts(events("hm", "</think>Yes", reasoning=True)) == [Reasoning("hm"), Content("Yes"), END]


def test_what_is_not_split_is_text() -> None:
    """Reasoning with its tags, and calls where none can come."""
    said = parts(events("<think>hm</think>", "x", reasoning=False), split_reasoning=False, may_call=False)
    assert [part.text for part in said if isinstance(part, Content)] == ["<think>", "hm</think>", "x"]
    call = '<tool_call>{"name": "now"}</tool_call>'
    assert parts(events(call), may_call=False) == [Content(call), END]


def test_what_is_held_comes_before_the_end() -> None:
    """The beginning of a tag that did not come is text."""
    assert parts(events("a <tool")) == [Content("a"), Content(" <tool"), END]


CALL = '<tool_call>{"name": "now"}</tool_call>'


def test_one_call_ends_the_answer() -> None:
    """The first one, wherever the pieces are cut; what it cost so far is counted."""
    said = events("Look. ", CALL[:20], f"{CALL[20:]} and {CALL}", CALL)
    *before, end = parts(said, one_call=True)
    assert before == [Content("Look."), Call("now", "{}")]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.prompt_tokens, end.usage.cached_tokens) == ("stop", 7, 2)
    assert end.usage.completion_tokens == 3


def test_a_thought_of_a_call_ends_nothing() -> None:
    """The tags of a call in a thought, or of one that is none, are no call."""
    said = events(f"<think>I write {CALL} now.</think>", "Yes </tool_call>.", CALL, "more")
    *before, end = parts(said, one_call=True)
    assert before == [
        Reasoning(f"I write {CALL} now."),
        Content("Yes </tool_call>."),
        Call("now", "{}"),
    ]
    assert isinstance(end, Finished) and end.usage.completion_tokens == 3


def test_without_a_call_the_answer_is_whole() -> None:
    """Then the engine's own end is the end."""
    assert parts(events("a"), one_call=True) == [Content("a"), END]


def test_errors_pass() -> None:
    """What was said before is said."""

    async def collect() -> list[Part | Finished]:
        collected: list[Part | Finished] = []
        with pytest.raises(GenerationFailed):
            async for part in parts_of(events("a", error=True), may_call=True):
                collected.append(part)
        return collected

    assert asyncio.run(collect()) == [Content("a")]
