"""An answer as it is spoken: the engine's events with the reasoning told from the text. Pure."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from qwenctl.runtime.answers import AnswerSplitter, Call, Part, Reasoning
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer."""

    text: str


Spoken = Thought | Said | Finished


def spoken(events: Iterator[Event]) -> Generator[Spoken, None, None]:
    """The pieces of one answer, `Finished` last. Closing it closes `events`, which stops the model."""
    splitter = AnswerSplitter(may_call=False)
    with closing(events):  # type: ignore[type-var] # a generator
        for event in events:
            match event:
                case PromptProcessed():
                    splitter = AnswerSplitter(may_call=False, reasoning=event.reasoning)
                case TextDelta():
                    yield from _pieces(splitter.feed(event.text))
                case Finished():
                    yield from _pieces(splitter.finish())
                    yield event


def _pieces(parts: Iterable[Part]) -> Iterator[Thought | Said]:
    for part in parts:
        assert not isinstance(part, Call)  # none is looked for
        yield Thought(part.text) if isinstance(part, Reasoning) else Said(part.text)
