"""What keeps the calls in an answer right: the grammar of calls of some tools, and where it rules. Pure.

With a free choice it begins to rule behind the tag that opens a call, so that other text stays as it was.
Source: the same division in llama.cpp, common/chat-auto-parser-generator.cpp, where no text follows a call.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.answers import CLOSING, OPENING
from qwenctl.runtime.gbnf import Grammar, literal, until
from qwenctl.runtime.sampling import MAX_GRAMMAR_LENGTH, Guidance
from qwenctl.runtime.schema import SchemaRules
from qwenctl.runtime.schema_merge import asks

_ANY: dict[str, Any] = {"type": "object"}


class _Tool(NamedTuple):
    name: str
    parameters: Any


def tool_guidance(tools: Sequence[dict[str, Any]], choice: str) -> Guidance:
    """The fields of `Sampling` that make calls of `tools` follow their parameters' schemas.

    `choice` is `auto`, `none`, `required`, or the name of the one tool that must be called. Under
    `auto` a schema that a grammar cannot say allows any object.

    Raises: InvalidRequest for a demanded tool that is not there, or whose parameters a grammar cannot say.
    """
    known = [
        _Tool(name, _parameters(function)) for function in map(_function, tools) if (name := _name(function))
    ]
    if choice == "none" or (choice == "auto" and not known):
        return {}
    if choice != "auto":
        wanted = [tool for tool in known if choice in ("required", tool.name)]
        if not wanted:
            raise InvalidRequest("`tool_choice` asks for a tool that is not among `tools`")
        return {"grammar": _demanded(wanted)}
    for offered in ([_said(tool) for tool in known], [tool._replace(parameters=_ANY) for tool in known]):
        try:
            text = _offered(offered)
        except InvalidRequest:  # together they are too much
            continue
        if len(text) <= MAX_GRAMMAR_LENGTH:
            return {"grammar": text, "grammar_triggers": (OPENING,)}
    return {}


def _demanded(tools: Sequence[_Tool]) -> str:
    grammar = Grammar()
    call = f"{literal(OPENING)} {_call(grammar, tools)}"
    return grammar.text(f"{call} (space {call})*")


def _offered(tools: Sequence[_Tool]) -> str:
    """What may follow the opening tag: the call, and then any text with further calls."""
    grammar = Grammar()
    call = _call(grammar, tools)
    for name, body in until("text", OPENING, f"{call} text", may_end=True):
        grammar.put(name, body)
    return grammar.text(f"{call} text")


def _call(grammar: Grammar, tools: Sequence[_Tool]) -> str:
    """The name of a rule for a call of any of them: from behind the opening tag to behind the closing one."""
    calls = []
    for tool in tools:
        try:
            arguments = SchemaRules(grammar, tool.parameters).rule(tool.parameters, "#")
        except InvalidRequest as error:
            raise InvalidRequest(f"tool `{tool.name[:100]}`: {error.message}", hint=error.hint) from error
        name = literal(json.dumps(tool.name, ensure_ascii=False))
        head = rf'"{{" space "\"name\"" space ":" space {name} space "," space'
        calls.append(grammar.new(rf'{head} "\"arguments\"" space ":" space {arguments} "}}" space'))
    return grammar.new(f"space ({' | '.join(calls)}) {literal(CLOSING)}")


def _said(tool: _Tool) -> _Tool:
    """The tool, with parameters that a grammar can say."""
    try:
        SchemaRules(Grammar(), tool.parameters).rule(tool.parameters, "#")
    except InvalidRequest:
        return tool._replace(parameters=_ANY)
    return tool


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}


def _name(function: dict[str, Any]) -> str:
    """Its name, empty when it has none that can be written."""
    name = function.get("name")
    try:
        return name if isinstance(name, str) and name.encode() else ""
    except UnicodeEncodeError:
        return ""


def _parameters(function: dict[str, Any]) -> Any:
    """The schema of its arguments, which are an object whatever it leaves open."""
    schema = function.get("parameters")
    says_nothing = schema is None or schema is True or (isinstance(schema, dict) and not asks(schema))
    return _ANY if says_nothing else schema
