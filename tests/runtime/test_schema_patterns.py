"""Regular expressions as grammars, against Python's own, which are the same in these cases."""

import json
import random
import re

import pytest

from qwenctl.runtime.gbnf import Grammar
from qwenctl.runtime.schema_patterns import LONGEST, PatternRefused, lengths, limited, read_pattern
from qwenctl.runtime.schema_strings import pattern_rule
from tests.runtime.grammar_reader import Rules, read

ALPHABET = 'abcxyz019 -_."\\/\n\t(){}[]é🦙'


def rules_of(pattern: str) -> Rules:
    """The grammar of the JSON strings that follow a pattern."""
    grammar = Grammar()
    return read(grammar.text(pattern_rule(grammar, pattern)))


@pytest.mark.parametrize(
    "pattern",
    [
        "^abc$",
        "^a|b$",
        "b",
        "^(a|bc)*$",
        "^(?:a|b){2,3}c?$",
        r"^\d+\.\d{1,2}$",
        r"^[^a-c\s]+$",
        r"^[\w.\-]+$",
        r"^a.c$",
        r"^\x61\u0062[\]\\]$",
        r'^["\\/]{2}$',
        r"^\S* \S*$",
        r"^[a-c]*?x+?$",
        "^(a*)*b$",
        "^(a|)+b$",
        "^(a?){3}b$",
        "^((a|b){0,2}){0,2}$",
        "^(a*)?$",
        "^a{3}$",
        "^x{a}$",
        "^$",
        "^(|a|ab)c$",
        r"^[🦙é]$",
        r"^\(\)\[\]\{\}$",
        r"^-?(0|[1-9]\d*)$",
    ],
)
def test_the_same_texts_as_a_regular_expression(pattern: str) -> None:
    """What the grammar says is found by the pattern, and of random texts both take the same."""
    rules, expression = rules_of(pattern), re.compile(pattern.replace("$", r"\Z"), re.ASCII)
    rng = random.Random(5)
    for _ in range(80):
        text = json.loads(rules.say(rng, 12))
        assert expression.search(text), text
        assert rules.derives(json.dumps(text, ensure_ascii=False))
    for _ in range(300):
        text = "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 5)))
        assert rules.derives(json.dumps(text, ensure_ascii=False)) == bool(expression.search(text)), text


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^\u{1F999}$", "🦙"),
        (r"^\ud83e\udd99$", "🦙"),
        (r"^\cJ$", "\n"),
        (r"^[^]$", "x"),
        (r"^(?<name>a)$", "a"),
        (r"^[\b]$", "\b"),
        (r"^\0$", "\0"),
        (r"^\W\D$", "é٣"),
        (r"^\s$", "\ufeff"),
    ],
)
def test_what_ecma_262_says_differently(pattern: str, text: str) -> None:
    """Its own escapes and classes."""
    assert rules_of(pattern).derives(json.dumps(text, ensure_ascii=False))


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?=a)b$",
        "^(?!a)b$",
        "^(?<=a)b$",
        "^(?i)a$",
        r"^(a)\1$",
        r"^\bword$",
        r"^\p{L}$",
        "^(^a)$",
        "^a$b$",
        "a^b",
        "^*$",
        "^a**$",
        "^(a$",
        "^a)$",
        "^[a$",
        "^[z-a]$",
        "^[]$",
        r"^\u{110000}$",
        r"^\x6$",
        r"^\ud800$",
        "^a{3,2}$",
        "^a{1,99999999}$",
        "\\",
        "(" * 40 + ")" * 40,
        "a" * (LONGEST + 1),
        "^(a?b?)*$",
        "^(a?b?){3}$",
        "^(a{1,900}){1,900}$",
    ],
)
def test_what_is_refused(pattern: str) -> None:
    """What a grammar cannot say, and what is no pattern."""
    with pytest.raises(PatternRefused):
        rules_of(pattern)


@pytest.mark.parametrize(
    ("pattern", "least", "most", "expected"),
    [
        ("^[a-z]+$", 2, 5, (2, 5)),
        ("^a[b-d]*e$", 0, 4, (2, 4)),
        ("^a*b*$", 0, 9, None),
        ("^(ab|abcd)$", 3, 9, (4, 4)),
        ("^(ab){1,9}$", 3, 9, (4, 8)),
        ("^abc$", 1, 3, (3, 3)),
        ("^a?$", 3, None, ()),
    ],
)
def test_lengths_narrow_a_pattern(
    pattern: str, least: int, most: int | None, expected: tuple[int, ...] | None
) -> None:
    """Where one repetition decides about it; else it is refused, or there is nothing left."""
    node = read_pattern(pattern)
    if expected is None:
        with pytest.raises(PatternRefused):
            limited(node, least, most)
        return
    found = limited(node, least, most)
    assert (lengths(found) if found is not None else ()) == expected
