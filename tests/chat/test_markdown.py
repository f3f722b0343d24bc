"""Answers in colours: nothing but colours is added, however the pieces are cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.chat.markdown import BOLD, CODE, DIM, ITALIC, RESET, Markdown

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def coloured(*pieces: str) -> str:
    """The pieces as they are shown."""
    markdown = Markdown()
    return "".join([*(markdown.feed(piece) for piece in pieces), markdown.end()])


def painted(style: str, text: str) -> str:
    """`text` in a style."""
    return f"{style}{text}{RESET}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("# A b", painted(DIM, "#") + painted(BOLD, " A b")),
        ("#hashtag", "#hashtag"),
        ("- a", painted(DIM, "-") + " a"),
        ("12. a", painted(DIM, "12.") + " a"),
        ("-5 degrees", "-5 degrees"),
        ("> q", painted(DIM, ">") + " q"),
        ("**b**", painted(DIM, "**") + painted(BOLD, "b") + painted(DIM, "**")),
        ("*i*", painted(DIM, "*") + painted(ITALIC, "i") + painted(DIM, "*")),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("snake_case_name", "snake_case_name"),
        (r"\*a\*", r"\*a\*"),
        ("`a*b*c`", painted(CODE, "`") + "".join(painted(CODE, c) for c in "a*b*c") + painted(CODE, "`")),
        ("```\nx\n```\n", f"{painted(DIM, '```')}\n{painted(CODE, 'x')}\n{painted(DIM, '```')}\n"),
        ("```frob\nx\n", f"{painted(DIM, '```frob')}\n{painted(CODE, 'x')}\n"),
    ],
)
def test_forms(text: str, shown: str) -> None:
    """Headings, lists, quotes, emphasis, code; what only looks like one of them stays as it is."""
    assert coloured(text) == shown


def test_code_has_the_colours_of_its_language() -> None:
    """A text of several lines is one to its end; tabs and blank lines stay."""
    code = 'def f():\n\n\t"""one\n\ttwo"""\n'
    shown = coloured(f"```python\n{code}```\nafter **b**")
    assert COLOUR.sub("", shown) == f"```python\n{code}```\nafter **b**"
    assert re.search(r'\x1b\[33m\ttwo"""', shown)
    assert painted(BOLD, "b") in shown


def test_a_long_block_keeps_its_pace() -> None:
    """Only the last lines are looked at for each."""
    code = "".join(f"x = {number}\n" for number in range(300))
    assert COLOUR.sub("", coloured(f"```python\n{code}```")) == f"```python\n{code}```"


def test_words_are_shown_as_they_come() -> None:
    """Nothing but a marker whose meaning is open is held back."""
    markdown = Markdown()
    assert markdown.feed("Some wor") == "Some wor"
    assert markdown.feed("ds *") == "ds "
    assert COLOUR.sub("", markdown.feed("and")) == "*and"


@given(st.lists(st.text(alphabet="ab #-*_`~>1.\\\n\t", max_size=8), max_size=12))
def test_nothing_but_colours_is_added(pieces: list[str]) -> None:
    """In any text, in any cuts; and no colour is on at the end of a line."""
    shown = coloured(*pieces)
    assert COLOUR.sub("", shown) == "".join(pieces)
    for line in shown.split("\n"):
        assert not COLOUR.search(line) or COLOUR.findall(line)[-1] == RESET
