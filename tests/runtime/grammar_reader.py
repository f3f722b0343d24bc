"""A second reader of GBNF, for tests: says texts that a grammar derives, and whether it derives a text.

Written from llama.cpp's `grammars/README.md`, for the part of the language that our grammars use.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

Symbol = str | tuple[tuple[int, int], ...]
"""The name of a rule, or the characters that may stand here."""

Stack = tuple[Symbol, ...]


@dataclass
class Rules:
    """A grammar as it was read: for every name its alternatives."""

    rules: dict[str, list[list[Symbol]]] = field(default_factory=dict)
    costs: dict[str, int] = field(default_factory=dict)

    def say(self, rng: random.Random, length: int = 60, start: str = "root") -> str:
        """A text that the grammar derives; beyond about `length` characters it hurries to an end."""
        text = ""
        stack: list[Symbol] = [start]
        while stack:
            symbol = stack.pop()
            if not isinstance(symbol, str):
                low, high = rng.choice(symbol)
                text += chr(rng.randint(low, min(high, low + 200)))
                continue
            options = self.rules[symbol]
            if len(text) > length:
                cheapest = min(map(self._cost, options))
                options = [option for option in options if self._cost(option) == cheapest]
            stack += reversed(rng.choice(options))
        return text

    def derives(self, text: str, start: str = "root") -> bool:
        """Whether the whole text follows from the grammar."""
        return () in self._after(text, start)

    def begins(self, text: str, start: str = "root") -> bool:
        """Whether the text can be the beginning of one that does."""
        return bool(self._after(text, start))

    def _after(self, text: str, start: str) -> set[Stack]:
        stacks = self._ready({(start,)})
        for character in text:
            number = ord(character)
            reached = {stack[1:] for stack in stacks if stack and _matches(stack[0], number)}
            stacks = self._ready(reached)
        return stacks

    def _ready(self, stacks: set[Stack]) -> set[Stack]:
        """The same, with characters in front."""
        ready: set[Stack] = set()
        seen, todo = set(stacks), list(stacks)
        while todo:
            stack = todo.pop()
            if not stack or not isinstance(stack[0], str):
                ready.add(stack)
                continue
            for option in self.rules[stack[0]]:
                following = (*option, *stack[1:])
                if following not in seen:
                    seen.add(following)
                    todo.append(following)
        return ready

    def _cost(self, option: list[Symbol]) -> int:
        return sum(self.costs.get(symbol, 10**6) if isinstance(symbol, str) else 1 for symbol in option)

    def weigh(self) -> None:
        """Find how short the texts of each rule can be."""
        changed = True
        while changed:
            changed = False
            for name, options in self.rules.items():
                cost = min(map(self._cost, options))
                if cost < self.costs.get(name, 10**6):
                    self.costs[name] = cost
                    changed = True


def _matches(symbol: Symbol, number: int) -> bool:
    return not isinstance(symbol, str) and any(low <= number <= high for low, high in symbol)


def read(grammar: str) -> Rules:
    """A grammar's rules. Fails for what is none."""
    rules = Rules()
    for line in filter(None, grammar.split("\n")):
        name, _, body = line.partition(" ::= ")
        assert name and name not in rules.rules, line
        reader = _Body(body, name, rules)
        rules.rules[name] = reader.options()
        assert reader.at == len(body), (line, reader.at)
    used = {symbol for options in rules.rules.values() for option in options for symbol in option}
    assert {symbol for symbol in used if isinstance(symbol, str)} <= rules.rules.keys()
    rules.weigh()
    return rules


class _Body:
    """One rule's right side."""

    def __init__(self, text: str, name: str, rules: Rules) -> None:
        self._text, self._name, self._rules, self.at = text, name, rules, 0

    def options(self) -> list[list[Symbol]]:
        """Alternatives up to a closing parenthesis, or the end."""
        found = [list(self._sequence())]
        while self._take("|"):
            found.append(list(self._sequence()))
        return found

    def _sequence(self) -> Iterator[Symbol]:
        while True:
            self._skip()
            if self.at == len(self._text) or self._text[self.at] in "|)":
                return
            yield from self._repeated(self._item())

    def _item(self) -> list[Symbol]:
        if self._take("("):
            name = self._new(self.options())
            assert self._take(")")
            return [name]
        if self._take('"'):
            characters: list[Symbol] = []
            while not self._take('"', skip=False):
                number = self._character()
                characters.append(((number, number),))
            return characters
        if self._take("["):
            return [self._class()]
        start = self.at
        while self.at < len(self._text) and (self._text[self.at].isalnum() or self._text[self.at] == "-"):
            self.at += 1
        assert self.at > start, self._text[start:]
        return [self._text[start : self.at]]

    def _class(self) -> Symbol:
        negated = self._take("^", skip=False)
        ranges = []
        while not self._take("]", skip=False):
            low = high = self._character()
            if self._take("-", skip=False):
                high = self._character()
            ranges.append((low, high))
        if not negated:
            return tuple(ranges)
        ends = sorted([(-1, -1), *ranges, (0x110000, 0x110000)])
        return tuple((a[1] + 1, b[0] - 1) for a, b in pairwise(ends) if a[1] + 1 < b[0])

    def _character(self) -> int:
        character = self._text[self.at]
        self.at += 1
        if character != "\\":
            return ord(character)
        kind = self._text[self.at]
        self.at += 1
        width = {"x": 2, "u": 4, "U": 8}.get(kind)
        if width:
            self.at += width
            return int(self._text[self.at - width : self.at], 16)
        return ord({"n": "\n", "r": "\r", "t": "\t"}.get(kind, kind))

    def _repeated(self, item: list[Symbol]) -> list[Symbol]:
        if self.at == len(self._text) or self._text[self.at] not in "*+?{":
            return item
        sign = self._text[self.at]
        self.at += 1
        if sign == "{":
            inside, _, _ = self._text[self.at :].partition("}")
            self.at += len(inside) + 1
            low, comma, high = inside.partition(",")
            least, most = int(low), int(high) if high else None if comma else int(low)
        else:
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
        if most is None:
            name = self._new([[]])
            self._rules.rules[name].append([*item, name])
            return item * least + [name]
        more: list[Symbol] = []
        for _ in range(most - least):
            more = [self._new([[], [*item, *more]])]
        return item * least + more

    def _new(self, options: list[list[Symbol]]) -> str:
        name = f"{self._name}~{len(self._rules.rules)}"
        self._rules.rules[name] = options
        return name

    def _take(self, text: str, skip: bool = True) -> bool:
        if skip:
            self._skip()
        found = self._text.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _skip(self) -> None:
        while self.at < len(self._text) and self._text[self.at] == " ":
            self.at += 1
