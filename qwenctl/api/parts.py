"""An engine's events as the parts of an answer, for every door alike."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from qwenctl.runtime.answers import AnswerSplitter, Content, Part
from qwenctl.runtime.events import Event, Finished, TextDelta


async def parts_of(events: AsyncGenerator[Event], *, may_call: bool) -> AsyncGenerator[Part | Finished]:
    """Text, with `may_call` calls of tools too, and in the end the `Finished`; closes `events`.

    Raises: what the engine raises.
    """
    splitter = AnswerSplitter() if may_call else None
    async with aclosing(events):
        async for event in events:
            if isinstance(event, TextDelta):
                for part in splitter.feed(event.text) if splitter else (Content(event.text),):
                    yield part
            elif isinstance(event, Finished):
                for part in splitter.finish() if splitter else ():
                    yield part
                yield event
