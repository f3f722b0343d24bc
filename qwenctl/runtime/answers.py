"""The calls in a model's answer, taken out of its text while it streams. Pure.

    Let me look.\n<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>

Source: the chat template of Qwen2.5 and Qwen3, which write calls so (Hermes' form).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.schema import grammar_of

OPENING: Final = "<tool_call>"
CLOSING: Final = "</tool_call>"


@dataclass(frozen=True, slots=True)
class Content:
    """Text that is meant for a person."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is the JSON text of an object."""

    name: str
    arguments: str


Part = Content | Call


class AnswerSplitter:
    """Splits one answer, fed piece by piece in whatever cuts.

    Text is held back only while it may still become a call, or the white space around one, which belongs to
    neither. What looks like a call and is none comes out as text: nothing is lost.
    """

    def __init__(self) -> None:
        self._held = ""  # outside of a call: what may be its beginning
        self._call: str | None = None  # inside of one: its text so far
        self._gap = ""  # the white space before it, which is text when it is none
        self._called = False

    def feed(self, text: str) -> list[Part]:
        """The parts that are certain after `text`."""
        parts: list[Part] = []
        self._held += text
        while True:
            if self._call is not None:
                inside, closed, after = (self._call + self._held).partition(CLOSING)
                if not closed:
                    self._call, self._held = inside, ""
                    return parts
                parts.append(_parse(inside, closed, self._gap))
                self._called = isinstance(parts[-1], Call)
                self._call, self._held = None, after
            before, opened, after = self._outside().partition(OPENING)
            if not opened:
                return parts + self._certain()
            if before.rstrip():
                parts.append(Content(before.rstrip()))
            self._gap = before[len(before.rstrip()) :]
            self._call, self._held = "", after

    def finish(self) -> list[Part]:
        """The rest, when the answer has ended; a call may lack its end."""
        call, self._call = self._call, None
        if call is not None:
            return [_parse(call, "", self._gap)]
        rest, self._held = self._outside(), ""
        return [Content(rest)] if rest else []

    def _outside(self) -> str:
        """What is held, without the white space behind a call."""
        if self._called:
            self._held = self._held.lstrip()
            self._called = not self._held
        return self._held

    def _certain(self) -> list[Part]:
        """Let go of all but an end that may be the beginning of a call."""
        possible = next(n for n in range(len(OPENING) - 1, -1, -1) if self._held.endswith(OPENING[:n]))
        end = len(self._held) - possible
        text = self._held[:end].rstrip()
        self._held = self._held[len(text) :]
        return [Content(text)] if text else []


def call_grammar(tools: Sequence[dict[str, Any]], name: str | None) -> str:
    """The grammar of one call of any of `tools`, or of the one called `name`, its arguments by their schema.

    Raises: InvalidRequest for a tool that is not there, or parameters that a grammar cannot say.
    """
    functions = [tool.get("function") for tool in tools]
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function.get("name")},
                "arguments": function.get("parameters") or {"type": "object"},
            },
            "required": ["name", "arguments"],
        }
        for function in functions
        if isinstance(function, dict) and name in (None, function.get("name"))
    ]
    if not calls:
        raise InvalidRequest("`tool_choice` asks for a tool that is not among `tools`")
    return grammar_of({"anyOf": calls}, f"{OPENING}\n", CLOSING)


def _parse(text: str, closed: str, gap: str) -> Part:
    """The call in the text between the tags, or that text with them and the white space before."""
    try:
        call = json.loads(text, parse_constant=_no_number)
        name, arguments = call["name"], call.get("arguments", {})
        if isinstance(name, str) and isinstance(arguments, dict):
            written = json.dumps(arguments, ensure_ascii=False)
            (name + written).encode()  # half of a character can be written in JSON, but not sent
            return Call(name, written)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    return Content(gap + OPENING + text + closed)


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
