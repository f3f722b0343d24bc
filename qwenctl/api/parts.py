"""An engine's events as the parts of an answer, for every door alike."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from qwenctl.runtime.answers import AnswerSplitter, Part
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta


async def parts_of(
    events: AsyncGenerator[Event], *, may_call: bool, split_reasoning: bool = True
) -> AsyncGenerator[Part | Finished]:
    """Reasoning, text, with `may_call` calls of tools too, and in the end the `Finished`; closes `events`.

    Without `split_reasoning` it is text, with its tags. Raises: what the engine raises.
    """
    splitter = AnswerSplitter(may_call=may_call, split_reasoning=split_reasoning)
    async with aclosing(events):
        async for event in events:
            match event:
                case PromptProcessed(reasoning=True):
                    splitter = AnswerSplitter(
                        may_call=may_call, split_reasoning=split_reasoning, reasoning=True
                    )
                case TextDelta():
                    for part in splitter.feed(event.text):
                        yield part
                case Finished():
                    for part in splitter.finish():
                        yield part
                    yield event
