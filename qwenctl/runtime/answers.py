"""What a model's answer is made of, taken out of its text while it streams: reasoning, text, calls. Pure.

    <think>\nThe clock tells.\n</think>\n\nLet me look.
    <tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>

Source: the chat templates of Qwen2.5 and Qwen3, which write calls (Hermes' form) and reasoning so.
"""

import json
from dataclasses import dataclass
from typing import Final, Literal

OPENING: Final = "<tool_call>"
CLOSING: Final = "</tool_call>"
THINK: Final = "<think>"
END_THINK: Final = "</think>"


@dataclass(frozen=True, slots=True)
class Content:
    """Text that is meant for a person."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is the JSON text of an object."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What the model thought before it answered."""

    text: str


Part = Reasoning | Content | Call


class AnswerSplitter:
    """Splits one answer, fed piece by piece in whatever cuts.

    `may_call`: whether calls are looked for. `split_reasoning`: whether the reasoning at the beginning is a
    part of its own, without its tags; else it is text as it was written. `reasoning`: whether the answer
    begins inside of it, because the prompt opened it. No call is looked for in reasoning.

    Text is held back only while it may still become a tag, or the white space around one, which belongs to
    neither. What looks like a call and is none comes out as text: nothing is lost.
    """

    def __init__(
        self, *, may_call: bool = True, split_reasoning: bool = True, reasoning: bool = False
    ) -> None:
        self._thoughts = _ThoughtSplitter(split_reasoning, reasoning)
        self._calls = _CallSplitter() if may_call else None

    def feed(self, text: str) -> list[Part]:
        """The parts that are certain after `text`."""
        parts, rest = self._thoughts.feed(text)
        return parts + self._answer(rest)

    def finish(self) -> list[Part]:
        """The rest, when the answer has ended; reasoning or a call may lack its end."""
        parts, rest = self._thoughts.finish()
        return parts + self._answer(rest) + (self._calls.finish() if self._calls else [])

    def _answer(self, text: str) -> list[Part]:
        if not text:
            return []
        return self._calls.feed(text) if self._calls else [Content(text)]


class _ThoughtSplitter:
    """Takes the reasoning off the beginning of an answer; what comes behind it is handed on."""

    def __init__(self, split: bool, inside: bool) -> None:
        self._split = split
        self._held = ""
        self._state: Literal["before", "inside", "behind", "over"] = "inside" if inside else "before"
        self._said = False

    def feed(self, text: str) -> tuple[list[Part], str]:
        """The parts that are certain, and the text behind the reasoning."""
        self._held += text
        parts: list[Part] = []
        if self._state == "before":
            self._begin(parts)
        if self._state == "inside":
            self._go_on(parts)
        if self._state == "behind":
            self._held = self._held.lstrip() if self._split else self._held
            self._state = "over" if self._held else "behind"
        if self._state != "over":
            return parts, ""
        rest, self._held = self._held, ""
        return parts, rest

    def finish(self) -> tuple[list[Part], str]:
        """The rest of either."""
        rest, self._held = self._held, ""
        if self._state != "inside":
            return [], rest
        parts: list[Part] = []
        self._say(parts, rest)
        return parts, ""

    def _begin(self, parts: list[Part]) -> None:
        start = self._held.lstrip()
        if start.startswith(THINK):
            self._state = "inside"
            if self._split:
                self._held = start[len(THINK) :]
            else:
                end = self._held.index(THINK) + len(THINK)
                parts.append(Content(self._held[:end]))
                self._held = self._held[end:]
        elif not THINK.startswith(start):
            self._state = "over"

    def _go_on(self, parts: list[Part]) -> None:
        thought, closed, after = self._held.partition(END_THINK)
        if closed:
            self._say(parts, thought.rstrip() if self._split else thought + closed)
            self._held, self._state = after, "behind"
            return
        end = len(self._held) - _beginning_of(END_THINK, self._held)
        thought = self._held[:end].rstrip() if self._split else self._held[:end]
        self._held = self._held[len(thought) :]
        self._say(parts, thought)

    def _say(self, parts: list[Part], thought: str) -> None:
        if self._split and not self._said:
            thought = thought.lstrip()
        if thought:
            self._said = True
            parts.append(Reasoning(thought) if self._split else Content(thought))


class _CallSplitter:
    """Takes the calls out of a text."""

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
        end = len(self._held) - _beginning_of(OPENING, self._held)
        text = self._held[:end].rstrip()
        self._held = self._held[len(text) :]
        return [Content(text)] if text else []


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


def _beginning_of(tag: str, text: str) -> int:
    """How many characters at the end of `text` may be the beginning of `tag`."""
    return next(length for length in range(len(tag) - 1, -1, -1) if text.endswith(tag[:length]))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
