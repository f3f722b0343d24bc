"""Where a grammar begins to rule, whatever the cuts."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.gbnf import until
from qwenctl.runtime.triggers import TriggerWatch, behind_reasoning
from tests.runtime.grammar_reader import read


def behind(text: str, pieces: int = 1, **options: bool) -> str | None:
    """What a watch for `<call>` and `<go>` finds in a text that comes in pieces of so many bytes."""
    watch, raw = TriggerWatch(("<call>", "<go>"), **options), text.encode()
    for start in range(0, len(raw), pieces):
        found = watch.feed(raw[start : start + pieces])
        if found is not None:
            return (found + raw[start + pieces :]).decode()
    return None


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<call>x", "x"),
        ("hé <<call>", ""),
        ("a <go>b<call>", "b<call>"),
        ("<cal l><ca", None),
        ("<think>I could <call></think>\n<call>now", "now"),
        ("\n<think>I could <call>", None),
        ("<thin <call>now", "now"),
        ("so <think><call>now", "now"),
    ],
)
def test_the_first_trigger_outside_of_reasoning(text: str, expected: str | None, pieces: int) -> None:
    """The text behind it comes out at once; in reasoning none counts."""
    assert behind(text, pieces) == expected


@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_reasoning_that_the_prompt_opened(pieces: int) -> None:
    """It lasts until it is closed."""
    assert behind("hm <call> </think><call>now", pieces, reasoning=True) == "now"


@given(st.text(alphabet="</think>abn ", max_size=40))
def test_any_text_up_to_a_tag(text: str) -> None:
    """The rules derive exactly the texts that hold the tag once, at their end."""
    rules = read("".join(f"{name} ::= {body}\n" for name, body in until("root", "</think>", '""')))
    for whole in (text, f"{text}</think>"):
        assert rules.derives(whole) == (whole.find("</think>") == len(whole) - len("</think>") >= 0)


@given(st.text(alphabet="aab", max_size=12))
def test_tags_that_begin_like_they_end(text: str) -> None:
    """What was read may be the beginning of the tag again."""
    for may_end in (False, True):
        written = until("root", "aabaa", '"!"', may_end=may_end)
        rules = read("".join(f"{name} ::= {body}\n" for name, body in written))
        assert rules.derives(text) == (may_end and "aabaa" not in text)
        ended = text.find("aabaa") == len(text) - 5 >= 0
        assert rules.derives(f"{text}!") == (ended or (may_end and "aabaa" not in text))


@pytest.mark.parametrize(
    ("opened", "form"), [(True, r"(?s:.*?)</think>\s*7"), (False, r"(<think>(?s:.*?)</think>\s*)?7")]
)
def test_a_grammar_leaves_reasoning_alone(opened: bool, form: str) -> None:
    """Reasoning, which must end, and then what the grammar says; none where the prompt has not opened it."""
    text, start = behind_reasoning("root ::= [7]\n", opened=opened)
    rules = read(text)
    for seed in range(40):
        said = rules.say(random.Random(seed), 20, start)
        assert re.fullmatch(form, said), said
    assert rules.derives("7", start) != opened
    assert rules.derives("hm</think>\n\n7", start) == opened
    assert rules.derives("<think>\nhm < 3 </\n</think>\n\n7", start)
    assert not rules.begins("<think>hm</think>8", start)
