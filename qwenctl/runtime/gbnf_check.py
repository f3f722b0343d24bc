"""Whether llama.cpp survives a grammar. It reads what callers wrote by recursion and without bounds. Pure.

A hundred thousand parentheses end the process; rules that offer the next one twice, or left recursion behind
what may be empty, keep it busy for ever; a long literal with `{2000}` takes all memory; and a token that
began as a character throws where nobody catches. One request would take all others with it.

Source: llama.cpp src/llama-grammar.cpp: `parse_sequence` (what a repetition writes out),
`llama_grammar_detect_left_recursion` and `llama_grammar_advance_stack` (which walk all ways to the first
characters), `llama_grammar_accept_token` against `llama_grammar_reject_candidates_for_stack`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, NoReturn

from qwenctl.errors import InvalidRequest

_DEEPEST: Final = 200
"""Groups in each other; each takes a KB of the stack."""
_LONGEST_CHAIN: Final = 10_000
"""Rules that begin with each other; each takes a fifth of that."""
_MOST_ELEMENTS: Final = 1_000_000
"""Characters and names with all repetitions written out; each takes 8 bytes, several times."""
_MOST_WAYS: Final = 50_000
"""From one place to the characters that may come next."""
_MOST_STEPS: Final = 5_000_000
"""On all ways from all rules to their first characters."""
_COUNTED: Final = 10**9  # enough to be too much
_UNBOUNDED: Final = 2000  # Source: MAX_REPETITION_THRESHOLD; a larger number is as good as none

_WORDS: Final = re.compile(
    r"""(?P<space>[ \t]+|\#[^\r\n]*)
      | (?P<line>[\r\n])
      | (?P<name>[a-zA-Z0-9-]+)
      | "(?P<literal>(?:[^"\\]|\\.)*)"
      | \[\^?(?P<class>(?:[^\]\\]|\\.)*)\]
      | !?<(?P<token>\[[0-9]+\]|[^>]*)>
      | (?P<any>\.)
      | (?P<times>[*+?]|\{\s*[0-9]+\s*(?:,\s*[0-9]*\s*)?\})
      | (?P<define>::=)
      | (?P<sign>[()|])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(?:x..|u....|U........|.)", re.DOTALL)
_TIMES: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


class _Item(NamedTuple):
    """A rule, a token or so many characters, and how often; `most` None is without end."""

    rule: str = ""
    characters: int = 0
    token: bool = False
    least: int = 1
    most: int | None = 1

    @property
    def copies(self) -> int:
        """How often llama.cpp writes it."""
        return self.least + 1 if self.most is None else max(self.least, self.most)


@dataclass(slots=True)
class _Rule:
    """The alternatives, and what is known of the texts that they derive."""

    alternatives: list[list[_Item]] = field(default_factory=lambda: [[]])
    may_be_empty: bool = False
    token_first: bool = False
    character_last: bool = False
    ways: int = 0
    chain: int = 0


_Rules = dict[str, _Rule]


@lru_cache(maxsize=16)
def check_grammar(text: str) -> None:
    """Raises: InvalidRequest for a grammar on which llama.cpp would fail, or work without an end."""
    rules = _read(text)
    if sum(item.copies * (item.characters + 1) for item in _items(rules)) > _MOST_ELEMENTS:
        _refuse(f"has more than {_MOST_ELEMENTS} characters, with its repetitions written out")
    _find_empty(rules)
    _check_ways(rules)
    _check_tokens(rules)


# --- reading ---------------------------------------------------------------------------------------


def _read(text: str) -> _Rules:
    """The rules by name; a group is one too, with a name that nobody can write."""
    rules: _Rules = {}
    opened: list[_Rule] = []  # the rule that is read, and the groups in it
    name = before = ""
    for kind, word in _words(text):
        if kind == "line":
            # A rule may go on in the next line inside a group, and behind `::=` and `|`.
            if len(opened) == 1 and before not in ("::=", "|"):
                opened.clear()
            continue
        before = word
        if opened:
            _put(rules, opened, kind, word)
        elif kind == "define" and name:
            rules[name] = _Rule()
            opened, name = [rules[name]], ""
        elif kind == "name" and not name:
            name = word
        else:
            _refuse(f"has `{word[:20]}` where a rule should begin")
    if len(opened) > 1:
        _refuse("has a group without its end")
    for item in _items(rules):
        if item.rule and item.rule not in rules:
            _refuse(f"has no rule `{item.rule[:100]}`")
    return rules


def _words(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = _WORDS.match(text, place)
        if found is None or found.lastgroup is None:
            _refuse(f"is no GBNF at `{text[place : place + 20]}`")
        place = found.end()
        if found.lastgroup != "space":
            yield found.lastgroup, found[found.lastgroup]


def _put(rules: _Rules, opened: list[_Rule], kind: str, word: str) -> None:
    items = opened[-1].alternatives[-1]
    match kind:
        case "name":
            items.append(_Item(rule=word))
        case "literal" if word:
            items.append(_Item(characters=len(_ESCAPE.sub("x", word))))
        case "class" if word:
            items.append(_Item(characters=len(word)))
        case "any":
            items.append(_Item(characters=1))
        case "token":
            items.append(_Item(token=True))
        case "times":
            _repeat(rules, items, word)
        case "define":
            _refuse("has `::=` in the midst of a rule")
        case "sign":
            _group(rules, opened, word)


def _group(rules: _Rules, opened: list[_Rule], sign: str) -> None:
    if sign == "|":
        opened[-1].alternatives.append([])
    elif sign == ")":
        if len(opened) < 2:
            _refuse("has `)` without its beginning")
        opened.pop()
    elif len(opened) > _DEEPEST:
        _refuse(f"has more than {_DEEPEST} groups in each other")
    else:
        name = f"({len(rules)}"
        rules[name] = _Rule()
        opened[-1].alternatives[-1].append(_Item(rule=name))
        opened.append(rules[name])


def _repeat(rules: _Rules, items: list[_Item], word: str) -> None:
    if not items:
        _refuse(f"has `{word}` behind nothing")
    least, most = _TIMES.get(word) or _bounds(word)
    if least > _UNBOUNDED:
        _refuse(f"repeats more than {_UNBOUNDED} times")
    if most is not None and most > _UNBOUNDED:
        most = None
    last = items.pop()
    if (last.least, last.most) != (1, 1):
        name = f"({len(rules)}"
        rules[name] = _Rule([[last]])
        last = _Item(rule=name)
    items.append(last._replace(least=least, most=most))


def _bounds(word: str) -> tuple[int, int | None]:
    least, comma, most = (part.strip() for part in word.strip("{}").partition(","))
    if max(len(least), len(most)) > len(str(_UNBOUNDED)) + 8:
        _refuse(f"has the number `{max(least, most, key=len)[:20]}`")
    if not comma:
        return int(least), int(least)
    return int(least), int(most) if most else None


# --- what it costs ---------------------------------------------------------------------------------


def _find_empty(rules: _Rules) -> None:
    """Which rules may derive nothing; counted, so that it takes no longer than to read them."""
    uses: dict[str, list[tuple[str, int]]] = {name: [] for name in rules}
    missing: dict[tuple[str, int], int] = {}
    found = []
    for name, rule in rules.items():
        for number, items in enumerate(rule.alternatives):
            needed = [item for item in items if item.least]
            missing[name, number] = len(needed)
            for item in needed:
                if item.rule:
                    uses[item.rule].append((name, number))
            if not needed:
                found.append(name)
    while found:
        name = found.pop()
        if rules[name].may_be_empty:
            continue
        rules[name].may_be_empty = True
        for use in uses[name]:
            missing[use] -= 1
            if not missing[use]:
                found.append(use[0])


def _check_ways(rules: _Rules) -> None:
    """Counts the ways to the first characters, from the rules that begin with no other one up."""
    begins = {name: _firsts(rules, rule) for name, rule in rules.items()}
    steps = 0
    for name in _in_order(begins):
        rule = rules[name]
        rule.chain = 1 + max((_chain(rules, item) for item in begins[name]), default=0)
        rule.ways = min(_COUNTED, len(rule.alternatives) + sum(_ways(rules, item) for item in begins[name]))
        steps += rule.ways
        if rule.chain > _LONGEST_CHAIN or rule.ways > _MOST_WAYS or steps > _MOST_STEPS:
            _refuse("has too many ways to the next character")
    for item in _items(rules):
        steps += _ways(rules, item) * (item.copies if _bare_empty(rules, item) else 1)
    runs = (_runs(rules, items) for rule in rules.values() for items in rule.alternatives)
    if steps > _MOST_STEPS or max(runs, default=0) > _MOST_WAYS:
        _refuse("has too many ways to the next character")


def _in_order(begins: dict[str, list[_Item]]) -> Iterator[str]:
    """The rules, each behind those that it begins with. Raises: InvalidRequest for left recursion."""
    state: dict[str, int] = {}
    for start in begins:
        todo = [start]
        while todo:
            name = todo[-1]
            if state.get(name) is None:
                state[name] = 1
                for item in begins[name]:
                    if item.rule and state.get(item.rule) == 1:
                        _refuse("has a rule that begins with itself (left recursion)")
                    if item.rule and item.rule not in state:
                        todo.append(item.rule)
                continue
            todo.pop()
            if state[name] == 1:
                state[name] = 2
                yield name


def _firsts(rules: _Rules, rule: _Rule) -> list[_Item]:
    """What a text of the rule may begin with."""
    found = []
    for items in rule.alternatives:
        for item in items:
            found.append(item)
            if not _empty(rules, item):
                break
    return found


def _empty(rules: _Rules, item: _Item) -> bool:
    return item.least == 0 or _bare_empty(rules, item)


def _bare_empty(rules: _Rules, item: _Item) -> bool:
    return bool(item.rule) and rules[item.rule].may_be_empty


def _ways(rules: _Rules, item: _Item) -> int:
    once = rules[item.rule].ways if item.rule else 1
    return once * item.copies if _bare_empty(rules, item) else once + (item.least == 0)


def _chain(rules: _Rules, item: _Item) -> int:
    once = rules[item.rule].chain if item.rule else 0
    return once + (item.copies if _bare_empty(rules, item) else 1)


def _runs(rules: _Rules, items: Sequence[_Item]) -> int:
    """The most ways from a place in the midst of an alternative."""
    most = run = 0
    for item in items:
        run += _ways(rules, item)
        most = max(most, run)
        if not _empty(rules, item):
            run = 0
    return most


# --- tokens ----------------------------------------------------------------------------------------


def _check_tokens(rules: _Rules) -> None:
    """A token whose first characters other rules took would be allowed, and then refused by an exception."""
    if not any(item.token for item in _items(rules)):
        return
    firsts = {name: _firsts(rules, rule) for name, rule in rules.items()}
    lasts = {name: _firsts(rules, _mirrored(rule)) for name, rule in rules.items()}
    for name in _reached(firsts, {name for name in rules if any(item.token for item in firsts[name])}):
        rules[name].token_first = True
    for name in _reached(lasts, {name for name in rules if any(item.characters for item in lasts[name])}):
        rules[name].character_last = True
    for rule in rules.values():
        for items in rule.alternatives:
            _check_neighbours(rules, items)


def _check_neighbours(rules: _Rules, items: Sequence[_Item]) -> None:
    behind_character = False
    for item in items:
        token_first = item.token or bool(item.rule and rules[item.rule].token_first)
        character_last = bool(item.characters) or bool(item.rule and rules[item.rule].character_last)
        if token_first and (behind_character or (character_last and item.copies > 1)):
            _refuse("has a token (`<…>`) behind characters, which llama.cpp cannot follow")
        behind_character = character_last or (behind_character and _empty(rules, item))


def _mirrored(rule: _Rule) -> _Rule:
    return _Rule([items[::-1] for items in rule.alternatives])


def _reached(begins: dict[str, list[_Item]], known: set[str]) -> set[str]:
    """The rules of `known`, and all that begin with one of them."""
    users: dict[str, list[str]] = {name: [] for name in begins}
    for name, items in begins.items():
        for item in items:
            if item.rule:
                users[item.rule].append(name)
    todo, reached = list(known), set(known)
    while todo:
        for user in users[todo.pop()]:
            if user not in reached:
                reached.add(user)
                todo.append(user)
    return reached


def _items(rules: _Rules) -> Iterator[_Item]:
    for rule in rules.values():
        for items in rule.alternatives:
            yield from items


def _refuse(why: str) -> NoReturn:
    raise InvalidRequest(f"the grammar {why}", hint="a simpler grammar, or a JSON schema, does it")
