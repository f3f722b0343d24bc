"""The small grammar of facts.txt: alternatives, optional parts, macros; and the intents it describes."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FACTS_PATH = Path(__file__).parent / "facts.txt"

# A node is literal text or (optional?, alternatives); an alternative is a sequence of nodes.
Node = str | tuple[bool, list[list["Node"]]]
Alternatives = list[list[Node]]

_MACRO_USE = re.compile(r"<([A-Z]+)(?::([^>]*))?>")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r" ([?.,!])")

# Verbs of facts.txt that double their last letter before -ing.
_DOUBLING = frozenset({
    "begin", "cap", "chat", "cut", "drop", "fit", "get", "grab", "hit", "let", "pin", "plan", "put", "quit",
    "retag", "run", "scrap", "set", "ship", "shut", "stop", "tag", "unplug", "untag", "win", "wrap",
})  # fmt: skip


@dataclass(slots=True)
class Intent:
    """One thing the guide can answer, and the patterns people use to ask for it."""

    name: str
    answer: str = ""
    short: str = ""
    more: str = ""
    verbs: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)

    @property
    def small_talk(self) -> bool:
        """Whether this is politeness rather than a question about qwenctl."""
        return self.name.startswith("g_")

    @property
    def takes_model(self) -> bool:
        """Whether the answer repeats the name of a model."""
        return "{m}" in self.answer


def load_intents(path: Path = FACTS_PATH) -> list[Intent]:
    """Read the intents of facts.txt with all macros expanded.

    Raises:
        ValueError: a line that is neither a comment, a macro, an intent nor one of its fields.
    """
    macros: dict[str, str] = {}
    intents: list[Intent] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("= "):
            name, text = line[2:].split(" ", 1)
            macros[name] = text
        elif line.startswith("@"):
            intents.append(Intent(line[1:]))
        elif intents and line[1:3] == ": ":
            _set_field(intents[-1], line[0], _expand_macros(line[3:], macros))
        else:
            raise ValueError(f"{path}:{number}: cannot read {line!r}")
    return intents


def _set_field(intent: Intent, key: str, text: str) -> None:
    match key:
        case "A":
            intent.answer = text
        case "S":
            intent.short = text
        case "M":
            intent.more = text
        case "V":
            intent.verbs.append(text)
        case "N":
            intent.nouns.append(text)
        case "Q":
            intent.questions.append(text)
        case _:
            raise ValueError(f"unknown field {key!r} of intent {intent.name}")


def _expand_macros(text: str, macros: dict[str, str]) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[1] not in macros:
            return found[0]
        body = macros[found[1]]
        return body.replace("%", found[2]) if found[2] is not None else body

    return _MACRO_USE.sub(replace, text)


def _parse(text: str, position: int, close: str) -> tuple[Alternatives, int]:
    """Parse alternatives up to `close`; return them with the position behind it."""
    alternatives: Alternatives = []
    current: list[Node] = []
    literal = ""
    while position < len(text):
        char = text[position]
        position += 1
        if char in "([":
            if literal:
                current.append(literal)
                literal = ""
            inner, position = _parse(text, position, ")" if char == "(" else "]")
            current.append((char == "[", inner))
        elif char in ("|", close):
            if literal:
                current.append(literal)
                literal = ""
            alternatives.append(current)
            current = []
            if char == close:
                return alternatives, position
        else:
            literal += char
    if close:
        raise ValueError(f"missing {close!r} in {text!r}")
    if literal:
        current.append(literal)
    alternatives.append(current)
    return alternatives, position


@cache
def _parsed(pattern: str) -> Alternatives:
    return _parse(pattern, 0, "")[0]


def expand(pattern: str, rng: random.Random) -> str:
    """Return one random text of the pattern, with single spaces."""

    def draw(alternatives: Alternatives) -> str:
        text = ""
        for node in rng.choice(alternatives):
            if isinstance(node, str):
                text += node
            elif not node[0] or rng.random() < 0.5:
                text += draw(node[1])
        return text

    text = _SPACES.sub(" ", draw(_parsed(pattern)))
    return _SPACE_BEFORE_MARK.sub(r"\1", text).strip()


@cache
def count(pattern: str) -> int:
    """How many texts a pattern has (equal texts counted twice)."""

    def size(alternatives: Alternatives) -> int:
        total = 0
        for alternative in alternatives:
            product = 1
            for node in alternative:
                if not isinstance(node, str):
                    product *= size(node[1]) + node[0]
            total += product
        return total

    return size(_parsed(pattern))


def gerund(phrase: str) -> str:
    """Put the first verb of an English phrase into its -ing form: `get a model`, `getting a model`."""
    verb, _, rest = phrase.partition(" ")
    if verb in _DOUBLING:
        verb += verb[-1]
    elif verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif verb.endswith("e") and not verb.endswith("ee") and verb != "be":
        verb = verb[:-1]
    return f"{verb}ing {rest}".strip()
