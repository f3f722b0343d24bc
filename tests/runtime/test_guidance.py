"""The grammars of calls: what of an answer they allow."""

from typing import Any

import pytest

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.answers import OPENING
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.sampling import Sampling
from tests.runtime.grammar_reader import read


def tool(name: object, parameters: object = None) -> dict[str, Any]:
    """A tool as clients describe it."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


DOOR = {
    "type": "object",
    "properties": {"number": {"$ref": "#/$defs/small"}},
    "required": ["number"],
    "$defs": {"small": {"type": "integer", "minimum": 1, "maximum": 9}},
}
STRANGE = {"type": "object", "properties": {"x": {"not": {}}}}
OPEN = '\n{"name": "open", "arguments": {"number": 7}}\n</tool_call>'
NOW = '\n{"name": "now", "arguments": {}}\n</tool_call>'


def test_a_free_choice_rules_behind_the_tag_alone() -> None:
    """A call must be right; before it, and behind it, there is any text, and further calls."""
    guidance = tool_guidance([tool("open", DOOR), tool("now")], "auto")
    assert guidance["grammar_triggers"] == (OPENING,)
    rules = read(guidance["grammar"])
    for text in (
        OPEN,
        f"{OPEN}\nDone. <b>",
        f"{NOW}\n{OPENING}{OPEN}",
        f"{OPEN} and <tool {OPENING}{NOW} <tool_c",
    ):
        assert rules.derives(text), text
    for text in (
        OPEN.replace("7", "70"),
        OPEN.replace("open", "shut"),
        OPEN.replace("number", "room"),
        f"{OPEN} and {OPENING}\n[",
        f"{OPEN}{OPENING}{OPEN.replace('7', '0')}",
        " no call",
    ):
        assert not rules.begins(text), text


@pytest.mark.parametrize(
    ("choice", "allowed", "refused"),
    [("required", [OPEN, NOW], []), ("open", [OPEN], [NOW]), ("now", [NOW], [OPEN])],
)
def test_a_demand_allows_nothing_else(choice: str, allowed: list[str], refused: list[str]) -> None:
    """One call or several, of any tool or of the one that is named."""
    guidance = tool_guidance([tool("open", DOOR), tool("now")], choice)
    rules = read(guidance["grammar"])
    assert "grammar_triggers" not in guidance
    for text in allowed:
        assert rules.derives(OPENING + text)
        assert rules.derives(f"{OPENING}{text}\n{OPENING}{text}")
        assert not rules.begins(f"{OPENING}{text}\nDone")
    for text in refused:
        assert not rules.begins(OPENING + text)
    assert not rules.begins("So") and not rules.derives("")


def test_what_a_grammar_cannot_say() -> None:
    """It is refused where a call is demanded, else any object will do; the other tools keep their schemas."""
    tools = [tool("odd", STRANGE), tool("open", DOOR)]
    with pytest.raises(InvalidRequest, match=r"tool `odd`.*#/properties/x/not"):
        tool_guidance(tools, "required")
    assert tool_guidance(tools, "open")["grammar"]
    rules = read(tool_guidance(tools, "auto")["grammar"])
    assert rules.derives('{"name":"odd","arguments":{"x":[1]}}</tool_call>')
    assert rules.derives(OPEN) and not rules.derives(OPEN.replace("7", "70"))


def test_many_tools_fall_back_together() -> None:
    """Where their schemas are too much for one grammar, any objects will do."""
    wide = {"type": "object", "properties": {f"p{number}": {"const": number} for number in range(300)}}
    tools = [tool(f"t{number}", wide) for number in range(8)]
    guidance = tool_guidance(tools, "auto")
    assert read(guidance["grammar"]).derives('{"name":"t7","arguments":{"free":1}}</tool_call>')
    assert Sampling(**guidance).grammar_triggers == (OPENING,)
    assert tool_guidance([tool(f"t{number}") for number in range(3000)], "auto") == {}


@pytest.mark.parametrize("parameters", [None, {}, {"description": "none"}, {"type": "object"}, True])
def test_arguments_are_an_object_whatever_is_left_open(parameters: object) -> None:
    """A schema that says nothing does not allow a number in their place."""
    rules = read(tool_guidance([tool("f", parameters)], "f")["grammar"])
    assert rules.derives('<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>')
    assert not rules.begins('<tool_call>\n{"name": "f", "arguments": 1')


@pytest.mark.parametrize(
    "tools", [[], [{}], [{"function": 7}], [{"function": {"name": 7}}], [tool("\ud800")]]
)
def test_without_a_tool_that_has_a_name(tools: list[dict[str, Any]]) -> None:
    """Nothing is guided; a demand is refused."""
    assert tool_guidance(tools, "auto") == {}
    with pytest.raises(InvalidRequest, match="tool_choice"):
        tool_guidance(tools, "required")


def test_no_choice_no_grammar() -> None:
    """`none` leaves the answer as it is."""
    assert tool_guidance([tool("now")], "none") == {}
