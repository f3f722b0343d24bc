"""ResponsesCall and ResponseMemory: what a response means to the engine, and how long it is kept."""

from typing import Any

import msgspec
import pytest

from qwenctl.api.openai_responses_memory import KeptResponse, ResponseMemory
from qwenctl.api.openai_responses_wire import Item, ResponsesCall, messages_of
from qwenctl.errors import NotFound
from qwenctl.runtime.engine import ChatRequest, Message, TextPart, ToolCall
from qwenctl.runtime.schema import ANY_OBJECT, grammar_of


def asked(**fields: Any) -> ChatRequest:
    """What the engine gets for a call with these fields, through JSON."""
    body = msgspec.json.encode({"model": "tiny", "input": "x"} | fields)
    return msgspec.json.decode(body, type=ResponsesCall).request()


def items(*said: dict[str, Any]) -> list[Item]:
    """Items through JSON."""
    return msgspec.convert(list(said), list[Item])


def test_items_of_the_assistant_in_a_row_are_one_turn() -> None:
    """Reasoning, text and calls, in this order; what cannot follow begins the next."""
    text = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    call = {"type": "function_call", "name": "now", "arguments": "{}", "call_id": "1"}
    thought = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]}
    said = items(thought, text, call, call | {"call_id": "2"}, thought, call, text, text)
    now = ToolCall("now", "{}", "1")
    a = (TextPart("a"),)
    assert messages_of(said, "input") == [
        Message("assistant", a, (now, ToolCall("now", "{}", "2")), reasoning_content="t"),
        Message("assistant", None, (now,), reasoning_content="t"),
        Message("assistant", a),
        Message("assistant", a),
    ]


def test_other_items() -> None:
    """Messages of all roles, in both forms of content, and outputs of functions."""
    said = items(
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "noon"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "s"}]},
    )
    assert messages_of(said, "input") == [
        Message("system", "be brief"),
        Message("user", (TextPart("hi"),)),
        Message("tool", (TextPart("noon"),), tool_call_id="1"),
        Message("assistant", None, reasoning_content="s"),
    ]


@pytest.mark.parametrize(
    ("form", "grammar"),
    [
        ({"type": "text"}, ""),
        ({"type": "json_object"}, ANY_OBJECT),
        ({"type": "json_schema", "name": "n", "schema": {"const": 1}}, grammar_of({"const": 1})),
    ],
)
def test_the_form_of_the_text(form: dict[str, Any], grammar: str) -> None:
    """Is enforced by a grammar."""
    assert asked(text={"format": form}).sampling.grammar == grammar


def test_what_is_too_long() -> None:
    """`truncation` says whether the oldest part may be left out; our own word for it goes further."""
    fields: list[dict[str, Any]] = [
        {},
        {"truncation": "disabled"},
        {"truncation": "auto"},
        {"overflow": "shift"},
    ]
    assert [asked(**one).overflow for one in fields] == ["refuse", "refuse", "truncate", "shift"]


def test_a_named_tool() -> None:
    """The name is beside the type here, and demanded by a grammar."""
    tools = [{"type": "function", "name": name} for name in ("now", "later")]
    grammar = asked(tools=tools, tool_choice={"type": "function", "name": "later"}).sampling.grammar
    assert "later" in grammar and "now" not in grammar


def test_effort() -> None:
    """None switches thinking off."""
    assert asked(reasoning={"effort": "none"}).template_options == {"enable_thinking": False}


def kept(id: str, size: int = 1) -> KeptResponse:
    """A response of `size` bytes."""
    return KeptResponse(id, b"x" * size, (), ())


def test_memory_is_bounded_in_number() -> None:
    """The one that was used least recently goes first."""
    memory = ResponseMemory(max_responses=2)
    memory.keep(kept("a"))
    memory.keep(kept("b"))
    memory.find("a")
    memory.keep(kept("c"))
    assert [memory.find(id).id for id in ("a", "c")] == ["a", "c"]
    with pytest.raises(NotFound):
        memory.find("b")


def test_memory_is_bounded_in_bytes() -> None:
    """As many go as it takes; one that is too large by itself drives nobody out."""
    memory = ResponseMemory(max_bytes=100)
    for id in ("a", "b", "c"):
        memory.keep(kept(id, 30))
    memory.keep(kept("d", 60))
    memory.keep(kept("e", 200))
    assert [memory.find(id).id for id in ("c", "d")] == ["c", "d"]
    for id in ("a", "b", "e"):
        with pytest.raises(NotFound):
            memory.find(id)


def test_forgetting_makes_room() -> None:
    """What is deleted counts no longer."""
    memory = ResponseMemory(max_bytes=100)
    for id in ("a", "b", "c"):
        memory.keep(kept(id, 60))
        memory.forget(id)
    memory.keep(kept("d", 60))
    assert memory.find("d").id == "d"
