"""Regular expressions of JSON Schema, read into a tree of what they match. Pure.

Source: ECMA-262 (2024), 22.2.1 with the flag `u`, as JSON Schema 2020-12, 6.4 demands; of it what a
context-free grammar can say: no look-around, no back references, anchors only at both ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qwenctl.runtime.gbnf import HIGHEST, MOST_REPEATS, Ranges, complement, union

LONGEST: Final = 4000
DEEPEST_GROUP: Final = 32
MOST_WAYS: Final = 4000
"""llama.cpp follows all of them side by side, and compares each with each."""


@dataclass(frozen=True, slots=True)
class Characters:
    """One character out of these."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Sequenced:
    """One after the other; of none it is the empty text."""

    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of them."""

    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """So many of the same; `most` None is without end."""

    item: "Node"
    least: int
    most: int | None


Node = Characters | Sequenced | Choice | Repeated

EVERY: Final = Characters(((0, HIGHEST),))
_ANYTHING: Final = Repeated(EVERY, 0, None)
_LINE_ENDS: Final = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_DIGITS: Final = ((0x30, 0x39),)
_WORD: Final = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACES: Final = (
    *((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)),
    *((0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
)
_CLASSES: Final = {
    "d": Characters(_DIGITS),
    "D": Characters(complement(_DIGITS)),
    "w": Characters(_WORD),
    "W": Characters(complement(_WORD)),
    "s": Characters(_SPACES),
    "S": Characters(complement(_SPACES)),
}
_CONTROLS: Final = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D, "0": 0x00}


class PatternRefused(ValueError):
    """The pattern is none, or says what a grammar cannot."""


def read_pattern(pattern: str) -> Node:
    """The tree of all texts that `pattern` is found in. Raises: PatternRefused."""
    if len(pattern) > LONGEST:
        raise PatternRefused(f"it is longer than {LONGEST} characters")
    reader = _Reader(pattern)
    node = reader.choice(0)
    if reader.rest:
        raise PatternRefused("a parenthesis is closed that was not opened")
    return node


def lengths(node: Node) -> tuple[int, int | None]:
    """How many characters its shortest and its longest text have; None is without end."""
    match node:
        case Characters():
            return 1, 1
        case Repeated(item, least, most):
            low, high = lengths(item)
            return low * least, 0 if high == 0 else None if high is None or most is None else high * most
        case Sequenced(items):
            bounds = [lengths(item) for item in items]
            highs = [high for _, high in bounds if high is not None]
            return sum(low for low, _ in bounds), sum(highs) if len(highs) == len(bounds) else None
        case Choice(options):
            bounds = [lengths(option) for option in options]
            highs = [high for _, high in bounds if high is not None]
            return min(low for low, _ in bounds), max(highs) if len(highs) == len(bounds) else None


def limited(node: Node, least: int, most: int | None) -> Node | None:
    """Of its texts those of `least` to `most` characters; None when there are none.

    Raises: PatternRefused where that is more than the bounds of one repetition.
    """
    low, high = lengths(node)
    if low >= least and (most is None or (high is not None and high <= most)):
        return node
    if (most is not None and low > most) or (high is not None and high < least):
        return None
    match node:
        case Choice(options):
            fitting = [found for option in options if (found := limited(option, least, most)) is not None]
            return Choice(tuple(fitting)) if fitting else None
        case Sequenced(items):
            return _limited_sequence(items, least, most)
        case Repeated(item, fewest, highest) if lengths(item)[0] == lengths(item)[1]:
            size = lengths(item)[0]
            fewest = max(fewest, -(-least // size))
            bounds = [
                bound for bound in (highest, None if most is None else most // size) if bound is not None
            ]
            upper = min(bounds) if bounds else None
            return None if upper is not None and upper < fewest else Repeated(item, fewest, upper)
    raise PatternRefused("it cannot be combined with these lengths")


def _limited_sequence(items: Sequence[Node], least: int, most: int | None) -> Node | None:
    free = [number for number, item in enumerate(items) if lengths(item)[0] != lengths(item)[1]]
    if len(free) != 1:
        raise PatternRefused("it cannot be combined with these lengths")
    fixed = sum(lengths(item)[0] for number, item in enumerate(items) if number != free[0])
    found = limited(items[free[0]], max(0, least - fixed), None if most is None else most - fixed)
    return None if found is None else Sequenced((*items[: free[0]], found, *items[free[0] + 1 :]))


class _Reader:
    """Reads a pattern from the left."""

    def __init__(self, pattern: str) -> None:
        self.rest = pattern

    def choice(self, depth: int) -> Node:
        """What stands between parentheses, or at depth 0 the whole."""
        if depth > DEEPEST_GROUP:
            raise PatternRefused(f"its groups are nested deeper than {DEEPEST_GROUP} levels")
        options = [self._sequence(depth)]
        while self._take("|"):
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Node:
        items: list[Node] = [] if depth or self._take("^") else [_ANYTHING]
        ended = False
        while self.rest and self.rest[0] not in "|)":
            if depth == 0 and self._take("$"):
                ended = True
                break
            items.append(self._repeated(self._atom(depth)))
        if ended and self.rest and self.rest[0] != "|":
            raise PatternRefused("an anchor stands inside")
        if depth == 0 and not ended:
            items.append(_ANYTHING)
        return items[0] if len(items) == 1 else Sequenced(tuple(items))

    def _atom(self, depth: int) -> Node:
        if self._take("("):
            return self._group(depth)
        if self._take("["):
            return self._class()
        if self._take("\\"):
            return self._escape(in_class=False)
        character = self._next()
        if character in "^$":
            raise PatternRefused("an anchor stands inside")
        if character in "*+?":
            raise PatternRefused("there is nothing to repeat")
        return Characters(complement(_LINE_ENDS)) if character == "." else _one(ord(character))

    def _group(self, depth: int) -> Node:
        if self._take("?"):
            if self._take("<"):
                name, closed, self.rest = self.rest.partition(">")
                if not closed or not name.isidentifier():
                    raise PatternRefused("look-around is not supported")
            elif not self._take(":"):
                raise PatternRefused("look-around and flags are not supported")
        node = self.choice(depth + 1)
        if not self._take(")"):
            raise PatternRefused("a parenthesis is not closed")
        return node

    def _repeated(self, item: Node) -> Node:
        bounds = self._quantifier()
        if bounds is None:
            return item
        self._take("?")  # to take as few as possible makes no other texts
        least, most = bounds
        if (most is not None and most < least) or max(least, most or 0) > MOST_REPEATS:
            raise PatternRefused(f"a quantifier is not from 0 to {MOST_REPEATS}")
        if self.rest and self.rest[0] in "*+?":
            raise PatternRefused("there is nothing to repeat")
        return _repetition(item, least, most)

    def _quantifier(self) -> tuple[int, int | None] | None:
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self.rest.startswith("{"):
            return None
        inside, closed, after = self.rest[1:].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not all(part.isdecimal() and len(part) < 9 for part in (low, high or "0")):
            return None  # a brace that stands for itself
        self.rest = after
        return int(low), int(high) if high else None if comma else int(low)

    def _class(self) -> Node:
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        while not self._take("]"):
            low = self._member()
            if self.rest.startswith("-") and not self.rest.startswith("-]"):
                self._take("-")
                high = self._member()
                if not (_single(low) and _single(high)) or high.ranges[0][0] < low.ranges[0][0]:
                    raise PatternRefused("a range in a class has no order")
                low = Characters(((low.ranges[0][0], high.ranges[0][0]),))
            ranges += low.ranges
        if not ranges and not negated:
            raise PatternRefused("a class is empty")
        return Characters(complement(ranges) if negated else union(ranges))

    def _member(self) -> Characters:
        return self._escape(in_class=True) if self._take("\\") else _one(ord(self._next()))

    def _escape(self, *, in_class: bool) -> Characters:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character == "0" and self.rest[:1].isdecimal():
            raise PatternRefused("octal escapes are not supported")
        if character in _CONTROLS:
            return _one(_CONTROLS[character])
        if in_class and character == "b":
            return _one(0x08)
        if character == "x":
            return _one(self._hex(2))
        if character == "u":
            return _one(self._unicode())
        if character == "c" and self.rest[:1].isascii() and self.rest[:1].isalpha():
            return _one(ord(self._next()) % 32)
        if character.isalnum():
            raise PatternRefused(f"`\\{character}` is not supported")
        return _one(ord(character))

    def _unicode(self) -> int:
        if self._take("{"):
            digits, _, self.rest = self.rest.partition("}")
            return _hexadecimal(digits)
        high = self._hex(4)
        if 0xD800 <= high < 0xDC00 and self._take("\\u"):
            return 0x10000 + ((high - 0xD800) << 10) + (self._hex(4) - 0xDC00)
        return high

    def _hex(self, count: int) -> int:
        digits, self.rest = self.rest[:count], self.rest[count:]
        if len(digits) < count:
            raise PatternRefused("an escape has no end")
        return _hexadecimal(digits)

    def _take(self, text: str) -> bool:
        found = self.rest.startswith(text)
        if found:
            self.rest = self.rest[len(text) :]
        return found

    def _next(self) -> str:
        if not self.rest:
            raise PatternRefused("it has no end")
        character, self.rest = self.rest[0], self.rest[1:]
        return character


def _repetition(item: Node, least: int, most: int | None) -> Node:
    """What may be empty is not repeated as it is: a grammar would follow all the ways to say nothing."""
    low, high = lengths(item)
    if most != 1 and low != high and _ways(item) * _steps(least, most) > MOST_WAYS:
        raise PatternRefused("repetitions in repetitions are too many")
    if low > 0 or most in (0, 1):
        return Repeated(item, least, most)
    match item:
        case Repeated(inner, _, bound) if bound != 0:
            total = None if bound is None or most is None else bound * most
            if total is None or total <= MOST_REPEATS:
                return Repeated(inner, 0, total)
        case Choice(options):
            filled = tuple(option for option in options if lengths(option)[1] != 0)
            if filled and all(lengths(option)[0] > 0 for option in filled):
                return Repeated(Choice(filled), 0, most)
    if high == 0:
        return Sequenced(())
    raise PatternRefused("what may be empty is repeated")


def _ways(node: Node) -> int:
    """About how many places in a pattern the same text can have reached."""
    match node:
        case Characters():
            return 1
        case Repeated(item, least, most):
            return _steps(least, most) * _ways(item)
        case Sequenced(items) | Choice(items):
            return max(map(_ways, items), default=1)


def _steps(least: int, most: int | None) -> int:
    return 1 if most is None else most - least + 1


def _one(character: int) -> Characters:
    return Characters(((character, character),))


def _single(node: Characters) -> bool:
    return len(node.ranges) == 1 and node.ranges[0][0] == node.ranges[0][1]


def _hexadecimal(digits: str) -> int:
    if not digits or len(digits) > 8 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise PatternRefused("an escape is no number")
    number = int(digits, 16)
    if number > HIGHEST:
        raise PatternRefused("an escape is no character")
    return number
