from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.detokenizer import Detokenizer
from qwenctl.runtime.stops import StopMatcher

_LETTERS = st.text("abé", max_size=30)
_STOPS = st.lists(st.text("abé", min_size=1, max_size=4), max_size=3)


def detokenize(pieces: list[bytes]) -> str:
    """All that a detokenizer makes of `pieces`."""
    detokenizer = Detokenizer()
    return "".join(map(detokenizer.feed, pieces)) + detokenizer.finish()


def match(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """What a matcher shows of `pieces`, and whether a stop string ended them."""
    matcher = StopMatcher(stops)
    shown = ""
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        shown += text
        if stopped:
            return shown, True
    return shown + matcher.finish(), False


@given(st.binary(max_size=40))
def test_any_bytes_become_what_python_makes_of_the_whole(content: bytes) -> None:
    """Byte by byte, the text is that of one replacing decode."""
    pieces = [content[at : at + 1] for at in range(len(content))]
    assert detokenize(pieces) == detokenize([content]) == content.decode(errors="replace")


@given(st.text(max_size=20), st.integers(1, 5))
def test_a_whole_character_is_never_withheld(text: str, size: int) -> None:
    """After any piece, what is missing is shorter than one character."""
    content = text.encode(errors="replace")
    detokenizer = Detokenizer()
    shown = ""
    for at in range(0, len(content), size):
        shown += detokenizer.feed(content[at : at + size])
        assert len(content[: at + size]) - len(shown.encode()) <= 3
    assert shown == content.decode()


@given(_LETTERS, _STOPS)
def test_the_cut_into_pieces_does_not_matter(text: str, stops: list[str]) -> None:
    """Whole and letter by letter, the same is shown."""
    assert match([text], stops) == match(list(text), stops)


@given(_LETTERS, _STOPS)
def test_only_whole_stop_strings_disappear(text: str, stops: list[str]) -> None:
    """What is shown begins the text and holds no stop string; all of it is shown where there is none."""
    shown, stopped = match(list(text), stops)
    assert text.startswith(shown)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in shown for stop in stops)
    if stopped:
        assert any(text[len(shown) :].startswith(stop) for stop in stops)
    else:
        assert shown == text


@given(_LETTERS, _STOPS)
def test_only_a_possible_beginning_is_held_back(text: str, stops: list[str]) -> None:
    """What a matcher keeps is the longest end of the text that begins a stop string."""
    matcher = StopMatcher(stops)
    shown = ""
    for at, letter in enumerate(text):
        piece, stopped = matcher.feed(letter)
        shown += piece
        if stopped:
            return
        seen = text[: at + 1]
        ends = [seen[-size:] for size in range(1, len(seen) + 1)]
        longest = max((len(end) for end in ends if any(s.startswith(end) for s in stops)), default=0)
        assert shown == seen[: len(seen) - longest]


def test_the_longest_of_several_that_end_together_counts() -> None:
    """`bc` and `abc` end at the same letter: nothing of either is shown."""
    assert match(list("xabcy"), ["bc", "abc"]) == ("x", True)
