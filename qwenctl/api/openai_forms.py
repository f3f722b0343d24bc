"""What OpenAI's calls say alike about contents, tools and the form of an answer, and what it means. Pure.

Source: OpenAI API reference, "Chat" and "Responses".
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import TextPart
from qwenctl.runtime.events import TokenLogprob
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.sampling import Guidance

_TEXT_KINDS: Final = frozenset({"text", "input_text", "output_text", "reasoning_text", "summary_text"})

LEAST_LOGPROB: Final = -9999.0
"""Stands for minus infinity, which JSON cannot say. Source: OpenAI API reference, "Chat", `logprob`."""

_GBNF_WORDS: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[^}]*\}|([a-zA-Z][a-zA-Z0-9-]*)', re.DOTALL
)
"""Literals, classes and repetitions as they are, and names of rules as a group.

Source: llama.cpp `grammars/README.md`.
"""

ToolChoice = str | dict[str, Any] | None
"""`auto`, `none`, `required`, or an object that names a function."""


class ContentPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a content that came as a list; text in a field named by its kind."""

    type: str
    text: str | None = None
    refusal: str | None = None

    def read(self, place: str) -> str:
        """Its text. Raises: InvalidRequest for what is no text, with `place`."""
        text = self.refusal if self.type == "refusal" else self.text
        if self.type not in _TEXT_KINDS and self.type != "refusal":
            raise InvalidRequest(
                f"`{place}.type` is `{self.type[:100]}`, but only text is understood",
                hint="leave images, audio and files out",
            )
        if text is None:
            raise InvalidRequest(f"`{place}` has no text")
        return text


Content = str | tuple[ContentPart, ...] | None


def content_of(content: Content, place: str) -> str | tuple[TextPart, ...] | None:
    """The engine's form of a message's content. Raises: InvalidRequest for what is no text."""
    if content is None or isinstance(content, str):
        return content
    return tuple(TextPart(part.read(f"{place}[{number}]")) for number, part in enumerate(content))


def role_of(role: str) -> str:
    """The name that templates know: the API renamed `system` to `developer`, no template did."""
    return "system" if role == "developer" else role


def form_grammar(kind: str, schema: dict[str, Any] | bool | None, place: str) -> str:
    """The grammar of a form that `place` in the call asks for; empty for plain text.

    Raises: InvalidRequest for a form that is not known, or a schema that cannot be enforced.
    """
    from qwenctl.runtime.schema import ANY_OBJECT, grammar_of

    match kind:
        case "text":
            return ""
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            if schema is None:
                raise InvalidRequest(f"`{place}` has no `schema`")
            return grammar_of(schema)
    hint = "it is text, json_object or json_schema"
    raise InvalidRequest(f"`{place}.type` cannot be `{kind[:100]}`", hint=hint)


def chosen_tool(choice: ToolChoice) -> str:
    """`auto`, `none`, `required`, or the name of a function. Raises: InvalidRequest for other objects."""
    if not isinstance(choice, dict):
        return choice or "auto"
    function = choice.get("function", choice)
    if choice.get("type", "function") == "function" and isinstance(function, dict) and "name" in function:
        return str(function["name"])
    if choice.get("type") in ("auto", "none", "required"):
        return str(choice["type"])
    raise InvalidRequest("`tool_choice` names no function", hint="it is auto, none, required or a function")


def answer_guidance(
    form: str, grammar: str | None, tools: Sequence[dict[str, Any]], choice: str, place: str
) -> Guidance:
    """The one grammar of an answer: of the `form` that `place` asks for, of calls (or of either, where the
    choice is free), or the caller's.

    Raises: InvalidRequest for two that exclude each other.
    """
    if choice not in ("auto", "none"):
        if grammar or form:
            raise InvalidRequest("`tool_choice` and another form of the answer exclude each other")
        return tool_guidance(tools, choice)
    if form and grammar:
        raise InvalidRequest(f"`{place}` and `grammar` exclude each other", hint="leave one out")
    if form and choice == "auto":
        return form_or_calls(form, tools)
    text = form or grammar
    return {"grammar": text} if text else tool_guidance(tools, choice)


def form_or_calls(form: str, tools: Sequence[dict[str, Any]]) -> Guidance:
    """The grammar of an answer that is calls of `tools`, or else follows the grammar `form`.

    Tools without a name cannot be called. Parameters that a grammar cannot say may be any object.
    """
    try:
        calls = tool_guidance(tools, "required")["grammar"]
    except InvalidRequest:
        calls = ""
        if named := [one for one in map(_called_with_anything, tools) if one is not None]:
            calls = tool_guidance(named, "required")["grammar"]
    if not calls:
        return {"grammar": form}
    return {"grammar": f"root ::= calls-root | form-root\n{_renamed(calls, 'calls')}{_renamed(form, 'form')}"}


def _called_with_anything(tool: dict[str, Any]) -> dict[str, Any] | None:
    """The tool with any parameters, None for one without a name."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return {"function": {"name": name}} if isinstance(name, str) and name else None


def _renamed(grammar: str, prefix: str) -> str:
    """`grammar` with `prefix` before the names of its rules, so that it can stand beside another."""
    return _GBNF_WORDS.sub(lambda match: f"{prefix}-{match[1]}" if match[1] else match[0], grammar)


def thinking(effort: str | None) -> dict[str, bool | int | float | str]:
    """The template's options for an effort of reasoning; `none` switches it off where that is possible."""
    if effort is None:
        return {}
    return {"enable_thinking": False} if effort == "none" else {"reasoning_effort": effort}


def likelihoods(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Tokens with the logarithms of their probabilities, in the API's form.

    A token that is part of a character has no text of its own; its `bytes` are exact.
    """
    return [_token(one.chosen.piece, one.chosen.logprob) | {"top_logprobs": _top(one)} for one in logprobs]


def _top(one: TokenLogprob) -> list[dict[str, Any]]:
    return [_token(other.piece, other.logprob) for other in one.top]


def _token(piece: bytes, logprob: float) -> dict[str, Any]:
    return {
        "token": piece.decode(errors="replace"),
        "logprob": max(logprob, LEAST_LOGPROB),
        "bytes": list(piece),
    }
