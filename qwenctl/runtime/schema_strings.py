"""The strings of a JSON Schema as rules of a grammar: lengths, patterns, formats, names of members. Pure."""

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from typing import Final

from qwenctl.runtime.gbnf import Grammar, Ranges, char_class, complement, literal
from qwenctl.runtime.schema_patterns import (
    EVERY,
    Characters,
    Choice,
    Node,
    PatternRefused,
    Repeated,
    Sequenced,
    limited,
    read_pattern,
)

_TIME: Final = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{3})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)"
_DATE: Final = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9\-]{0,61}[A-Za-z0-9])?"
_BYTE: Final = r"(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
FORMATS: Final[Mapping[str, str]] = {
    "date": f"^{_DATE}$",
    "time": f"^{_TIME}$",
    "date-time": f"^{_DATE}T{_TIME}$",
    "uuid": r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    "email": rf"^[A-Za-z0-9_+\-]{{1,24}}(\.[A-Za-z0-9_+\-]{{1,24}})?@{_LABEL}(\.{_LABEL}){{1,3}}$",
    "hostname": rf"^{_LABEL}(\.{_LABEL}){{0,4}}$",
    "ipv4": rf"^({_BYTE}\.){{3}}{_BYTE}$",
    "uri": r"^[a-zA-Z][a-zA-Z0-9+.\-]{0,20}:(//)?[A-Za-z0-9\-._~:/?#@!$&'()*+,;=]+$",
    "duration": r"^P(\d{1,9}W|(\d{1,9}D)?T(\d{1,9}H(\d{1,9}M(\d{1,9}S)?)?|\d{1,9}M(\d{1,9}S)?|\d{1,9}S)"
    r"|\d{1,9}D|\d{1,9}Y(\d{1,9}M(\d{1,9}D)?)?|\d{1,9}M(\d{1,9}D)?)$",
}
"""Not every text of these formats, but none that is not of its format (but for days that a month has not).

Source: RFC 3339 with its appendix A, RFC 4122, 5321, 1123, 791, 3986; the first four as in llama.cpp's
`common/json-schema-to-grammar.cpp`.
"""

MOST_NAME_LENGTH: Final = 200
_SURROGATES: Final = ((0xD800, 0xDFFF),)
_ESCAPED: Final = (*range(0x20), 0x22, 0x5C)
"""Characters that a JSON string holds only escaped. Source: RFC 8259, section 7."""


def pattern_rule(grammar: Grammar, pattern: str, least: int = 0, most: int | None = None) -> str:
    """An expression for a JSON string that `pattern` is found in and that has so many characters.

    Raises: PatternRefused where a grammar cannot say it, or there is no such string; InvalidRequest when the
    grammar becomes too large.
    """
    node = limited(read_pattern(pattern), least, most)
    if node is None:
        raise PatternRefused("no text of these lengths follows it")
    return rf'"\"" {_text(grammar, node)} "\""'


def other_name(grammar: Grammar, names: Collection[str]) -> str:
    """A rule for a JSON string that is none of `names`: for the name of a member beside those with a name."""
    plain = char_class(_unescaped(EVERY.ranges))
    unit = grammar.new(rf'{plain} | [\\] ["\\bfnrt]')
    rest = grammar.new(f"{unit}*")
    return grammar.new(rf'"\"" {_unlike(grammar, sorted(set(map(_units, names))), unit, rest)} "\""')


def _unlike(grammar: Grammar, names: list[tuple[str, ...]], unit: str, rest: str) -> str:
    """A rule for what differs from all `names`, and is not the beginning of a text that is one of them.

    A name that is only begun differs as well, so every point may be the end, but those where a name ends.
    """
    if any(len(name) > MOST_NAME_LENGTH for name in names):
        raise PatternRefused(f"a name is longer than {MOST_NAME_LENGTH} characters")
    first = {name[0] for name in names if name}
    options = [] if () in names else ['""']
    for head, group in groupby((name for name in names if name), key=lambda name: name[0]):
        options.append(f"{literal(head)} {_unlike(grammar, [name[1:] for name in group], unit, rest)}")
    singles = [ord(head) for head in first if len(head) == 1]
    others = [(low, high) for low, high in complement([(one, one) for one in singles]) if low <= high]
    options.append(f"{char_class(_unescaped(tuple(others)))} {rest}")
    escapes = [letter for letter in '"\\bfnrt' if f"\\{letter}" not in first]
    if escapes:
        options.append(f"({' | '.join(literal(chr(92) + letter) for letter in escapes)}) {rest}")
    return grammar.new(" | ".join(options))


def _units(name: str) -> tuple[str, ...]:
    """The characters of a name as JSON writes them."""
    return tuple(_written(character) for character in name)


def _written(character: str) -> str:
    return json.dumps(character, ensure_ascii=False)[1:-1]


def _text(grammar: Grammar, node: Node) -> str:
    """An expression for the inside of a JSON string."""
    match node:
        case Characters(ranges):
            return _character(grammar, ranges)
        case Sequenced(items):
            return " ".join(_runs(grammar, items)) or '""'
        case Choice(options):
            return grammar.new(" | ".join(_text(grammar, option) for option in options))
        case Repeated(item, least, most):
            text = _text(grammar, item)
            one = text if isinstance(item, Characters) and text.startswith("[") else grammar.new(text)
            return grammar.repeat(one, least, most)


def _runs(grammar: Grammar, items: Iterable[Node]) -> Iterable[str]:
    """The items, neighbouring fixed characters as one literal."""
    for fixed, group in groupby(items, key=_is_fixed):
        if fixed:
            yield literal(
                "".join(_written(chr(item.ranges[0][0])) for item in group if isinstance(item, Characters))
            )
        else:
            yield from (_text(grammar, item) for item in group)


def _is_fixed(node: Node) -> bool:
    if not isinstance(node, Characters) or len(node.ranges) != 1:
        return False
    low, high = node.ranges[0]
    return low == high and not 0xD800 <= low <= 0xDFFF


def _character(grammar: Grammar, ranges: Ranges) -> str:
    """One character as JSON writes it: plain, or escaped."""
    plain = _unescaped(ranges)
    escaped = [number for number in _ESCAPED if any(low <= number <= high for low, high in ranges)]
    options = [char_class(plain)] if plain else []
    options += [literal(_written(chr(number))) for number in escaped]
    if not options:
        raise PatternRefused("a character of it cannot be sent")
    return options[0] if len(options) == 1 and plain else grammar.new(" | ".join(options))


def _unescaped(ranges: Ranges) -> Ranges:
    """Of these characters those that a JSON string holds as they are."""
    missing = complement(ranges)
    return complement([*missing, *((number, number) for number in _ESCAPED), *_SURROGATES])
