"""What calls of Anthropic's API mean to the engine, and which are refused."""

from typing import Any

import msgspec
import pytest

from qwenctl.api.anthropic_wire import MessagesCall
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, ToolCall
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.schema import grammar_of

TOOL = {"name": "now", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}


def text(said: str) -> dict[str, str]:
    """A block of text."""
    return {"type": "text", "text": said}


def user(*blocks: Any) -> dict[str, Any]:
    """A message of the user."""
    return {"role": "user", "content": list(blocks)}


def asked(*messages: dict[str, Any], **fields: Any) -> ChatRequest:
    """What the engine is asked by a call."""
    body = {"model": "m", "messages": list(messages) or [user(text("hi"))], "max_tokens": 9} | fields
    return msgspec.json.decode(msgspec.json.encode(body), type=MessagesCall).request({"temperature": 0.25})


def test_results_are_turns_of_their_own() -> None:
    """In the order of the blocks, with the name that the call had."""
    call = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {"zone": "UTC"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("noon")]}
    request = asked(
        user(text("what time?")),
        {"role": "assistant", "content": [text("Look."), call]},
        user(result, text("and now?")),
    )
    assert request.messages[1:] == (
        Message("assistant", "Look.", tool_calls=(ToolCall("now", '{"zone":"UTC"}', "toolu_1"),)),
        Message("tool", "noon", tool_call_id="toolu_1", name="now"),
        Message("user", "and now?"),
    )


def test_texts_between_results() -> None:
    """A text before a result is said before it; a result may be empty."""
    result = {"type": "tool_result", "tool_use_id": "t"}
    turns = asked(user(text("one"), text("two"), result)).messages
    assert [(turn.role, turn.content) for turn in turns] == [("user", "one\ntwo"), ("tool", "")]


def test_thoughts_come_back() -> None:
    """Thinking is the turn's reasoning; what its maker alone can read is left out."""
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "x"},
        text("yes"),
    ]
    turns = asked(user(text("hi")), {"role": "assistant", "content": blocks}, user(text("so?"))).messages
    assert turns[1] == Message("assistant", "yes", reasoning_content="hm")


def test_system_messages() -> None:
    """Blocks of text, and turns in the middle."""
    midway = {"role": "system", "content": "now French"}
    turns = asked(user(text("hi")), midway, user(text("so?")), system=[text("be brief")]).messages
    assert [turn.role for turn in turns] == ["system", "user", "system", "user"]


@pytest.mark.parametrize(
    ("choice", "ours"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "any"}, "required"),
        ({"type": "tool", "name": "now"}, "now"),
    ],
)
def test_tool_choice(choice: Any, ours: str) -> None:
    """Calls follow the schemas of the tools, and a demand for one is enforced, by a grammar."""
    request = asked(tools=[TOOL], tool_choice=choice)
    guidance = tool_guidance(request.tools, ours)
    assert request.sampling.grammar == guidance.get("grammar", "")
    assert request.sampling.grammar_triggers == guidance.get("grammar_triggers", ())
    assert request.tool_choice == ("none" if ours == "none" else "auto")


def test_a_form() -> None:
    """A schema is a grammar."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    request = asked(output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "low"})
    assert request.sampling.grammar == grammar_of(schema)


def test_thinking_is_the_templates_matter() -> None:
    """Only where the call speaks of it."""
    assert asked().template_options == {}
    assert asked(thinking={"type": "disabled"}).template_options == {"enable_thinking": False}
    assert asked(thinking={"type": "adaptive"}).template_options == {"enable_thinking": True}


def test_the_defaults_are_the_models() -> None:
    """What the call leaves open is what the maker suggests."""
    assert asked().sampling.temperature == 0.25
    assert asked(temperature=0.5).sampling.temperature == 0.5


@pytest.mark.parametrize(
    ("messages", "fields", "words"),
    [
        ([user({"type": "image", "source": {}})], {}, r"messages\[0\]\.content\[0\].*`image`"),
        ([user(text("a"), {"type": "document"})], {}, r"messages\[0\]\.content\[1\].*`document`"),
        (
            [user({"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image"}]})],
            {},
            r"messages\[0\]\.content\[0\]\.content\[0\]",
        ),
        ([user({"type": "tool_result", "tool_use_id": "t", "content": 7})], {}, "neither"),
        ([user({"type": "tool_result"})], {}, "tool_use_id"),
        ([user({"type": "text"})], {}, r"content\[0\]\.text"),
        ([user({"text": "hi"})], {}, "`None`"),
        ([user(text("a")), {"role": "assistant", "content": "The best is"}], {}, "cannot be continued"),
        ([], {"messages": []}, "messages"),
        ([], {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, r"tools\[0\]\.type"),
        ([], {"tools": [TOOL], "tool_choice": {"type": "tool"}}, "names no tool"),
        ([], {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "other"}}, "not among"),
        ([], {"mcp_servers": [{}]}, "mcp_servers"),
        ([], {"temperature": -1}, "temperature"),
        ([], {"max_tokens": 0}, "max_tokens"),
        ([], {"output_config": {"format": {"type": "xml"}}}, "xml"),
    ],
)
def test_refusals(messages: list[dict[str, Any]], fields: dict[str, Any], words: str) -> None:
    """What cannot be had is refused with its place, never ignored."""
    with pytest.raises(InvalidRequest, match=words):
        asked(*messages, **fields)
