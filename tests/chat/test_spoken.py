"""Events of the engine become thoughts and answers."""

from collections.abc import Iterator

import pytest

from qwenctl.chat.spoken import Said, Thought, spoken
from qwenctl.chat.tally import Tally
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta, Usage

END = Finished("stop", Usage(9, 5, 3, 0.5, 2.0))


def events(*texts: str, reasoning: bool = False) -> Iterator[Event]:
    """One answer."""
    yield PromptProcessed(9, 3, 0.5, reasoning)
    yield from (TextDelta(text, 1) for text in texts)
    yield END


def heard(*texts: str, reasoning: bool = False) -> tuple[str, str]:
    """Thoughts and answer."""
    pieces = list(spoken(events(*texts, reasoning=reasoning)))
    assert pieces[-1] is END
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    return thought, "".join(piece.text for piece in pieces if isinstance(piece, Said))


@pytest.mark.parametrize(
    ("texts", "reasoning", "thought", "said"),
    [
        (("hello ", "you"), False, "", "hello you"),
        (("<think>\nhm\n</think>\n\nso",), False, "hm", "so"),
        (("<th", "ink>hm</thi", "nk>so"), False, "hm", "so"),
        (("hm</think>so",), True, "hm", "so"),
        (("hm, cut",), True, "hm, cut", ""),
        (('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>',), False, "", None),
    ],
)
def test_thoughts_and_answer(texts: tuple[str, ...], reasoning: bool, thought: str, said: str | None) -> None:
    """Whether the model or the template opened the thoughts; a call is text, for nobody offered a tool."""
    assert heard(*texts, reasoning=reasoning) == (thought, "".join(texts) if said is None else said)


def test_closing_stops_the_model() -> None:
    """The events are closed with the pieces."""
    closed = []

    def model() -> Iterator[Event]:
        try:
            yield from events("a", "b")
        finally:
            closed.append(True)

    pieces = spoken(model())
    next(pieces)
    pieces.close()
    assert closed == [True]


def test_what_answers_cost() -> None:
    """A quiet line, the context, and figures."""
    tally = Tally()
    assert (tally.line(100), tally.rows()) == ("", [])
    assert tally.context(100) == "nothing was answered yet; the context holds 100"
    tally.count(END.usage)
    tally.count(END.usage)
    assert tally.line(100) == "5 tokens · 2.5 tokens/s · context 14 of 100"
    assert tally.line(None) == "5 tokens · 2.5 tokens/s · context 14"
    assert tally.context(100) == "context 14 of 100 tokens, 14 %"
    assert tally.rows() == [
        ("Prompt", "9 tokens, 3 of them cached · 0.5s · 12.0 tokens/s"),
        ("Answer", "5 tokens · 2.0s · 2.5 tokens/s"),
        ("All", "10 tokens in 2 answers · 2.5 tokens/s"),
    ]
