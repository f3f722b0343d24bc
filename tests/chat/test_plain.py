"""What a model writes cannot steer the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.chat.plain import PlainText, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ümläut, 漢字, 👍\n\ttabbed", "plain, ümläut, 漢字, 👍\n\ttabbed"),
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9b2Jx", "x"),
        ("bell\x07 back\x08 return\r null\x00", "bell back return null"),
        ("\x1bPq...\x1b\\x", "x"),
        ("\x1bcx", "x"),
    ],
)
def test_control_sequences_vanish_and_text_stays(text: str, shown: str) -> None:
    """Colours, titles, links, resets and bells are taken out; letters, line breaks and tabs stay."""
    assert plain(text) == shown


@pytest.mark.parametrize("text", ["a\x1b[31mred\x1b[0m b", "\x1b]0;title\x07x", "\x1b]8;;u\x1b\\l"])
def test_a_sequence_may_be_cut_anywhere(text: str) -> None:
    """The pieces of a stream give what the whole gives."""
    for cut in range(len(text) + 1):
        cleaner = PlainText()
        assert cleaner.feed(text[:cut]) + cleaner.feed(text[cut:]) + cleaner.end() == plain(text)


@given(st.lists(st.text(alphabet=st.sampled_from("ab\n\x1b[]0;m\x07\x9b\\P\x00"), max_size=6), max_size=8))
def test_nothing_that_controls_gets_through(pieces: list[str]) -> None:
    """However it is cut, no control character is ever shown but line break and tab."""
    cleaner = PlainText()
    shown = "".join(cleaner.feed(piece) for piece in pieces) + cleaner.end()
    assert all(letter in "\n\t" or letter >= " " for letter in shown)
    assert "\x9b" not in shown and "\x7f" not in shown


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs")), max_size=50), st.integers(0, 50))
def test_text_without_controls_is_untouched(text: str, cut: int) -> None:
    """Ordinary text passes as it is, and at once."""
    cleaner = PlainText()
    assert cleaner.feed(text[:cut]) + cleaner.feed(text[cut:]) == text
