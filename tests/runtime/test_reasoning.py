"""The reasoning at the beginning of an answer, whatever the cuts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.answers import AnswerSplitter, Call, Content, Part, Reasoning
from qwenctl.runtime.engine import ChatRequest, Message
from qwenctl.runtime.template import ChatTemplate

CALL = '<tool_call>{"name": "now"}</tool_call>'


def split(*pieces: str, **options: bool) -> list[Part]:
    """The parts, neighbours of one kind joined."""
    splitter, parts = AnswerSplitter(**options), list[Part]()
    for part in [*(part for piece in pieces for part in splitter.feed(piece)), *splitter.finish()]:
        last = parts[-1] if parts else None
        if isinstance(part, Content) and isinstance(last, Content):
            parts[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            parts[-1] = Reasoning(last.text + part.text)
        else:
            parts.append(part)
    return parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\nhm\n\nwell\n</think>\n\nYes.\n", [Reasoning("hm\n\nwell"), Content("Yes.\n")]),
        ("\n <think>hm</think>Yes", [Reasoning("hm"), Content("Yes")]),
        ("<think>\n\n</think>\n\nYes", [Content("Yes")]),
        ("<think></think>", []),
        ("<think>\nand so on ", [Reasoning("and so on ")]),
        ("<think>a < b </thin", [Reasoning("a < b </thin")]),
        ("<think>a</think><think>b</think>", [Reasoning("a"), Content("<think>b</think>")]),
        ("So <think>hm</think>", [Content("So <think>hm</think>")]),
        ("<thin", [Content("<thin")]),
        (" \n<thing>", [Content(" \n<thing>")]),
        ("</think>x", [Content("</think>x")]),
        (f"<think>I could {CALL}</think>\n{CALL}", [Reasoning(f"I could {CALL}"), Call("now", "{}")]),
        (f"<think>hm</think>\nLook. {CALL}", [Reasoning("hm"), Content("Look."), Call("now", "{}")]),
    ],
)
def test_reasoning_and_text(text: str, parts: list[Part]) -> None:
    """Reasoning comes first or not at all, without its tags and the space around them; it calls nothing."""
    assert split(text) == parts
    assert split(*text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("\nhm\n</think>\n\nYes", [Reasoning("hm"), Content("Yes")]),
        ("hm", [Reasoning("hm")]),
        ("\n", []),
        ("</think>Yes", [Content("Yes")]),
        (f"{CALL}</think>{CALL}", [Reasoning(CALL), Call("now", "{}")]),
    ],
)
def test_the_prompt_may_have_opened_it(text: str, parts: list[Part]) -> None:
    """Then the answer begins inside."""
    assert split(text, reasoning=True) == parts
    assert split(*text, reasoning=True) == parts


@pytest.mark.parametrize("text", ["<think>\nhm\n</think>\n\nYes ", " <think>", "Yes", "<think>hm </thi"])
@pytest.mark.parametrize("reasoning", [True, False])
def test_it_may_stay_text(text: str, reasoning: bool) -> None:
    """As it was written, to the last space; without calls at least."""
    assert split(*text, may_call=False, split_reasoning=False, reasoning=reasoning) == [Content(text)]


def test_what_stays_text_calls_nothing() -> None:
    """What looks like a call in it is none, what comes behind it is one."""
    text = f"<think>{CALL}</think>"
    assert split(text + CALL, split_reasoning=False) == [Content(text), Call("now", "{}")]


@given(
    st.lists(
        st.sampled_from([CALL, "text", " ", "\n", "<think>", "</think>", "<", "</", "think>"]), max_size=8
    ),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_the_cuts_do_not_matter(words: list[str], reasoning: bool, keep: bool, data: st.DataObject) -> None:
    """Any cutting of a text gives the same parts."""
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = split(text, reasoning=reasoning, split_reasoning=not keep)
    assert split(*pieces, reasoning=reasoning, split_reasoning=not keep) == whole


def test_reasoning_is_held_no_longer_than_needed() -> None:
    """Thoughts come out while they are thought."""
    splitter = AnswerSplitter()
    assert splitter.feed("<think>\n") == []
    assert splitter.feed("hm") == [Reasoning("hm")]
    assert splitter.feed(" </") == []
    assert splitter.feed("b>") == [Reasoning(" </b>")]


def test_earlier_reasoning_reaches_the_template() -> None:
    """Qwen3's template writes it back into the turns since the last question."""
    source = (
        "{% for m in messages %}{% if m.reasoning_content is defined %}"
        "<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }};{% endfor %}"
    )
    turns = (Message("user", "hi"), Message("assistant", "yes", reasoning_content="hm"))
    assert ChatTemplate(source).render(ChatRequest(messages=turns)) == "hi;<think>hm</think>yes;"
