"""Grammars in llama.cpp's language (GBNF), written rule by rule. Pure.

Source: llama.cpp `grammars/README.md`; the primitive rules and their bounds are those of its
`common/json-schema-to-grammar.cpp`, but for halves of characters.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from qwenctl.errors import InvalidRequest

MOST_RULES: Final = 2000
MOST_REPEATS: Final = 50_000
_MOST_AT_ONCE: Final = 1000
"""llama.cpp refuses more than 2,000. Source: its src/llama-grammar.cpp, MAX_REPETITION_THRESHOLD."""

HIGHEST: Final = 0x10FFFF
Ranges = tuple[tuple[int, int], ...]
"""Characters by their numbers, from and to (inclusive)."""

_SPACE: Final = 'space ::= | " " | "\\n"{1,2} [ \\t]{0,20}'
_PRIMITIVES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "boolean": ('("true" | "false") space', ()),
    "null": ('"null" space', ()),
    "integral": ("[0] | [1-9] [0-9]{0,15}", ()),
    "integer": ('("-"? integral) space', ("integral",)),
    "number": ('("-"? integral) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})? space', ("integral",)),
    "char": (r'[^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt] | "u" utf16)', ("utf16",)),
    # Half of a character could be written in JSON, but not sent; and two halves would count as two.
    "utf16": ("([0-9a-cA-CeEfF] [0-9a-fA-F] | [dD] [0-7]) [0-9a-fA-F]{2}", ()),
    "string": (r'"\"" char* "\"" space', ("char",)),
    "value": (
        "object | array | string | number | boolean | null",
        ("object", "array", "string", "number", "boolean", "null"),
    ),
    "object": (
        '"{" space ( string ":" space value ("," space string ":" space value)* )? "}" space',
        ("string", "value"),
    ),
    "array": ('"[" space ( value ("," space value)* )? "]" space', ("value",)),
}


class Grammar:
    """One grammar under construction. Raises: InvalidRequest when it needs too many rules."""

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}
        self._shared: dict[str, str] = {}

    def text(self, root: str) -> str:
        """The whole grammar; it begins with its rule `root`."""
        lines = [f"root ::= {root}", _SPACE, *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return "\n".join(lines) + "\n"

    def primitive(self, name: str) -> str:
        """The name of a rule that many schemas need."""
        if name not in self._rules:
            body, needs = _PRIMITIVES[name]
            self.put(name, body)
            for other in needs:
                self.primitive(other)
        return name

    def new(self, body: str) -> str:
        """The name of a new rule."""
        name = f"r{len(self._rules)}"
        self.put(name, body)
        return name

    def repeat(self, item: str, least: int, most: int | None) -> str:
        """An expression for a rule, or a class, so many times; `most` None is without end."""
        if most == 0:
            return '""'
        if max(least, most or 0) <= _MOST_AT_ONCE:
            return f"{item}{{{least},{'' if most is None else most}}}"
        if least:
            whole = self.shared(f"{item}{{{_MOST_AT_ONCE}}}") if least >= _MOST_AT_ONCE else ""
            parts = [whole] * (least // _MOST_AT_ONCE) + [f"{item}{{{least % _MOST_AT_ONCE}}}"] * (
                least % _MOST_AT_ONCE > 0
            )
            return " ".join([*parts, self.repeat(item, 0, None if most is None else most - least)])
        assert most is not None, "without an end and a beginning it is no long one"
        whole = self.shared(f"{item}{{{_MOST_AT_ONCE}}}")
        fewer = self.shared(f"{item}{{0,{_MOST_AT_ONCE - 1}}}")
        return self.shared(f"{fewer} | {whole} {self.repeat(item, 0, most - _MOST_AT_ONCE)}")

    def shared(self, body: str) -> str:
        """The name of a rule that is written once, however often it is asked for."""
        if body not in self._shared:
            self._shared[body] = self.new(body)
        return self._shared[body]

    def reserve(self) -> str:
        """A name whose rule is `put` later."""
        return self.new("")

    def put(self, name: str, body: str) -> None:
        """A rule with a name of its own."""
        if len(self._rules) >= MOST_RULES and name not in self._rules:
            raise InvalidRequest(f"the schema needs more than {MOST_RULES} rules")
        self._rules[name] = body


def until(name: str, tag: str, follow: str, *, may_end: bool = False) -> list[tuple[str, str]]:
    """The rules, the first called `name`, of any text up to the first `tag` and, behind that, `follow`.

    With `may_end` the text may also end without the tag. There is a rule for each beginning of the tag that
    may have been read. Source: Knuth, Morris, Pratt, "Fast pattern matching in strings" (1977).
    """
    names = [name, *(f"{name}-{length}" for length in range(1, len(tag)))]
    rules = []
    for length, rule in enumerate(names):
        steps = {character: _step(tag, length, character) for character in sorted(set(tag))}
        ways = {character: step for character, step in steps.items() if step}
        body = [f"{literal(character)} {[*names, follow][step]}" for character, step in ways.items()]
        others = char_class(complement([(ord(character), ord(character)) for character in ways]))
        rules.append((rule, " | ".join(['""'] * may_end + [*body, f"{others} {name}"])))
    return rules


def _step(tag: str, length: int, character: str) -> int:
    """How much of `tag` has been read when `character` comes behind its first `length` characters."""
    text = tag[:length] + character
    return next(known for known in range(len(text), -1, -1) if text.endswith(tag[:known]))


def literal(text: str) -> str:
    """A text as a literal of the grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def char_class(ranges: Sequence[tuple[int, int]]) -> str:
    """Any one of these characters."""
    spans = (_number(low) if low == high else f"{_number(low)}-{_number(high)}" for low, high in ranges)
    return f"[{''.join(spans)}]"


def complement(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """All characters but these."""
    gaps, start = [], 0
    for low, high in union(ranges):
        if start < low:
            gaps.append((start, low - 1))
        start = high + 1
    return (*gaps, (start, HIGHEST)) if start <= HIGHEST else tuple(gaps)


def union(ranges: Sequence[tuple[int, int]]) -> Ranges:
    """The same characters in order, no one twice."""
    joined: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if joined and low <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], high))
        else:
            joined.append((low, high))
    return tuple(joined)


def _number(character: int) -> str:
    """A character of a class: as itself where it has no meaning there."""
    if character < 128:
        return chr(character) if chr(character).isalnum() else f"\\x{character:02X}"
    return f"\\u{character:04X}" if character < 0x10000 else f"\\U{character:08X}"
