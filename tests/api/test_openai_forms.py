"""What OpenAI's calls say alike: the one grammar of an answer that may be a form or calls."""

import json
from typing import Any

import pytest

from qwenctl.api.openai_forms import answer_guidance, form_or_calls
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.schema import ANY_OBJECT, grammar_of
from tests.runtime.grammar_reader import read

SCHEMA = {
    "type": "object",
    "properties": {
        "root": {"enum": ['a"root [x] {2}', 1]},
        "b": {"type": "string", "pattern": "^[\\]r-z]+$"},
    },
    "required": ["root"],
    "additionalProperties": False,
}
STRANGE = {"type": "object", "properties": {"x": {"not": {}}}}


def tool(name: object, parameters: object = None) -> dict[str, Any]:
    """A tool as clients describe it."""
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def written(name: str, **arguments: Any) -> str:
    """A call as models write it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


TOOL = tool("open", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


def test_calls_or_the_form() -> None:
    """An answer is calls that follow their parameters, or else the form, and nothing else, from the start."""
    guidance = form_or_calls(grammar_of(SCHEMA), [TOOL])
    assert set(guidance) == {"grammar"}
    Sampling(**guidance)
    rules = read(guidance["grammar"])
    for text in (
        '{"root": "a\\"root [x] {2}"}',
        '{"root": 1, "b": "]rst"}',
        written("open", n=7),
        written("open", n=7) + "\n" + written("open", n=8),
    ):
        assert rules.derives(text), text
    for text in ("Well", '{"b"', '{"root": 2', written("open", n="x"), written("shut"), '{"root": 1}<'):
        assert not rules.begins(text), text


def test_tools_that_a_grammar_cannot_say() -> None:
    """Strange parameters may be any object; a tool without a name cannot be called at all."""
    rules = read(form_or_calls(ANY_OBJECT, [tool("odd", STRANGE), tool(""), {}])["grammar"])
    assert rules.derives(written("odd", x=[1])) and rules.derives("{}")
    assert form_or_calls(ANY_OBJECT, [tool(""), {}]) == {"grammar": ANY_OBJECT}
    assert form_or_calls(ANY_OBJECT, []) == {"grammar": ANY_OBJECT}


@pytest.mark.parametrize(("choice", "calls"), [("auto", True), ("none", False)])
def test_the_choice_decides(choice: str, calls: bool) -> None:
    """Where no call may come the form alone rules."""
    text = answer_guidance(ANY_OBJECT, None, [TOOL], choice, "response_format")["grammar"]
    assert read(text).derives(written("open", n=1)) is calls
    assert read(text).derives('{"a": 1}')
