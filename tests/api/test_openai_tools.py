"""Calls of tools at OpenAI's door, by the public client: streamed and whole, and the next turn."""

import json
from typing import Any

import pytest

from tests.api.api_builders import ScriptedHost

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")

TOOLS: list[Any] = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
HELLO: list[Any] = [{"role": "user", "content": "what time is it?"}]
NOW = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'


def ask(client: Any, **fields: Any) -> Any:
    """One question with tools."""
    return client.chat.completions.create(model="tiny", messages=HELLO, tools=TOOLS, **fields)


def test_a_call(client: Any, host: ScriptedHost) -> None:
    """Name and arguments in the API's form, no content, and its own reason to end."""
    host.deltas = (NOW[:20], NOW[20:])
    choice = ask(client).choices[0]
    (call,) = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "now",
        {"zone": "UTC"},
    )
    assert call.id.startswith("call_")
    assert (choice.message.content, choice.finish_reason) == (None, "tool_calls")


def test_text_and_several_calls(client: Any, host: ScriptedHost) -> None:
    """The text before stays, the calls come in order with ids of their own."""
    host.deltas = ("Let me ", "look.\n", NOW, "\n", NOW)
    message = ask(client).choices[0].message
    assert message.content == "Let me look."
    assert len({call.id for call in message.tool_calls}) == 2


def test_streams_give_the_same(client: Any, host: ScriptedHost) -> None:
    """Text at once, each call with its index, and the same reason."""
    host.deltas = tuple(f"Let me look.\n{NOW}\n{NOW}")
    chunks = [chunk.choices[0] for chunk in ask(client, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == "Let me look."
    calls = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
    assert [(call.index, call.function.name) for call in calls] == [(0, "now"), (1, "now")]
    assert chunks[-1].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_calls(client: Any, host: ScriptedHost, stream: bool) -> None:
    """Tools need not be used; text is text, to the last character."""
    host.deltas = ("Hello <", "tool> ", "wörld\n")
    if stream:
        chunks = [chunk.choices[0] for chunk in ask(client, stream=True)]
        text, reason = "".join(chunk.delta.content or "" for chunk in chunks), chunks[-1].finish_reason
    else:
        choice = ask(client).choices[0]
        text, reason = choice.message.content, choice.finish_reason
        assert choice.message.tool_calls is None
    assert (text, reason) == ("Hello <tool> wörld\n", "stop")


@pytest.mark.parametrize("fields", [{"tools": openai.NOT_GIVEN}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_nothing_is_taken_out(client: Any, host: ScriptedHost, fields: dict[str, Any]) -> None:
    """What looks like a call is what the model said."""
    host.deltas = (NOW,)
    choice = client.chat.completions.create(model="tiny", messages=HELLO, **fields).choices[0]
    assert (choice.message.content, choice.finish_reason) == (NOW, "stop")


def test_a_call_that_is_cut_off_is_text(client: Any, host: ScriptedHost) -> None:
    """The length limit in mid-call loses nothing."""
    host.deltas, host.reason = (NOW[:30],), "length"
    choice = ask(client).choices[0]
    assert (choice.message.content, choice.finish_reason) == (NOW[:30], "length")
    assert choice.message.tool_calls is None


def test_the_next_turn(client: Any, host: ScriptedHost) -> None:
    """The client's own form of the answer, sent back with the result, reaches the template."""
    host.deltas = (NOW,)
    message = ask(client).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "noon"}
    host.deltas = ("It is noon.",)
    turns = [*HELLO, message, result]
    answer = client.chat.completions.create(model="tiny", messages=turns, tools=TOOLS)
    assert answer.choices[0].message.content == "It is noon."
    called = host.request.messages[1]
    assert (called.tool_calls[0].name, json.loads(called.tool_calls[0].arguments)) == ("now", {"zone": "UTC"})
    assert host.request.messages[2].tool_call_id == called.tool_calls[0].id
