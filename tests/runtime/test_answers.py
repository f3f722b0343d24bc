"""Calls in an answer, whatever the cuts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.answers import AnswerSplitter, Call, Content, Part

NOW = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
CALL = Call("now", '{"zone": "UTC"}')


def split(*pieces: str) -> list[Part]:
    """The parts, neighbouring texts joined."""
    splitter, parts = AnswerSplitter(), list[Part]()
    for part in [*(part for piece in pieces for part in splitter.feed(piece)), *splitter.finish()]:
        if parts and isinstance(part, Content) and isinstance(parts[-1], Content):
            parts[-1] = Content(parts[-1].text + part.text)
        else:
            parts.append(part)
    return parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("plain text\n", [Content("plain text\n")]),
        (NOW, [CALL]),
        (f"Let me look.\n\n{NOW}\n", [Content("Let me look."), CALL]),
        (f"{NOW}\n{NOW}", [CALL, CALL]),
        (f"{NOW}\nDone.", [CALL, Content("Done.")]),
        ('<tool_call>{"name": "now"}</tool_call>', [Call("now", "{}")]),
        ('<tool_call>\n{"name": "now", "arguments": {"é": 1}}', [Call("now", '{"é": 1}')]),
        ("<tool_call>\nnot json\n</tool_call>", [Content("<tool_call>\nnot json\n</tool_call>")]),
        ('<tool_call>{"name": 7}</tool_call>!', [Content('<tool_call>{"name": 7}</tool_call>!')]),
        (
            '<tool_call>{"name": "n", "arguments": "x"}',
            [Content('<tool_call>{"name": "n", "arguments": "x"}')],
        ),
        ("<tool_call>[]</tool_call>", [Content("<tool_call>[]</tool_call>")]),
        ("hi \n<tool_call>x</tool_call>", [Content("hi \n<tool_call>x</tool_call>")]),
        ("hi <tool_call>\nx", [Content("hi <tool_call>\nx")]),
        (
            '<tool_call>{"name": "n", "arguments": {"x": NaN}}',
            [Content('<tool_call>{"name": "n", "arguments": {"x": NaN}}')],
        ),
        (r'<tool_call>{"name": "\ud800"}', [Content(r'<tool_call>{"name": "\ud800"}')]),
        ("a <tool_cal", [Content("a <tool_cal")]),
        ("a < b <t <tool_> ", [Content("a < b <t <tool_> ")]),
        ("</tool_call>", [Content("</tool_call>")]),
    ],
)
def test_calls_and_text(text: str, parts: list[Part]) -> None:
    """What is a call is one, everything else is text, and nothing is lost."""
    assert split(text) == parts
    assert split(*text) == parts


@given(
    st.lists(st.sampled_from([NOW, "text", " ", "\n", "<tool_call>", "</tool_call>", "<", "{}"]), max_size=8),
    st.data(),
)
def test_the_cuts_do_not_matter(words: list[str], data: st.DataObject) -> None:
    """Any cutting of a text gives the same parts."""
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert split(*pieces) == split(text)


@given(st.text(alphabet="ab <tol_c>/\n", max_size=60))
def test_text_without_calls_stays_as_it_is(text: str) -> None:
    """Also where it looks like the beginning of one."""
    assert "".join(part.text for part in split(*text) if isinstance(part, Content)) == text


def test_text_is_held_no_longer_than_needed() -> None:
    """Words come out at once; only what may be a tag, or the space before it, waits."""
    splitter = AnswerSplitter()
    assert splitter.feed("Hello") == [Content("Hello")]
    assert splitter.feed(" <tool") == []
    assert splitter.feed("box>") == [Content(" <toolbox>")]
