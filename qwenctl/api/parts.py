"""An engine's events as the parts of an answer, for every door alike."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from qwenctl.runtime.answers import AnswerSplitter, Call, Part
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta, Usage


async def parts_of(
    events: AsyncGenerator[Event],
    *,
    may_call: bool,
    split_reasoning: bool = True,
    one_call: bool = False,
) -> AsyncGenerator[Part | Finished]:
    """Reasoning, text, with `may_call` calls of tools too, and in the end the `Finished`; closes `events`.

    Without `split_reasoning` it is text, with its tags. With `one_call` the first call ends the answer: its
    closing tag as a stop would end an answer that merely thinks about such a tag, too.

    Raises: what the engine raises.
    """
    splitter = AnswerSplitter(may_call=may_call, split_reasoning=split_reasoning)
    count = _Count()
    async with aclosing(events):
        async for event in events:
            count.hear(event)
            match event:
                case PromptProcessed(reasoning=True):
                    splitter = AnswerSplitter(
                        may_call=may_call, split_reasoning=split_reasoning, reasoning=True
                    )
                case TextDelta():
                    for part in splitter.feed(event.text):
                        yield part
                        if one_call and isinstance(part, Call):
                            await events.aclose()
                            yield count.finished()
                            return
                case Finished():
                    for part in splitter.finish():
                        yield part
                    yield event


class _Count:
    """What an answer has cost so far, for one that is ended from here."""

    def __init__(self) -> None:
        self._prompt = PromptProcessed(0, 0, 0.0)
        self._tokens = 0
        self._began_seconds = time.perf_counter()

    def hear(self, event: Event) -> None:
        match event:
            case PromptProcessed():
                self._prompt, self._began_seconds = event, time.perf_counter()
            case TextDelta():
                self._tokens += event.tokens

    def finished(self) -> Finished:
        prompt, seconds = self._prompt, time.perf_counter() - self._began_seconds
        return Finished(
            "stop",
            Usage(prompt.prompt_tokens, self._tokens, prompt.cached_tokens, prompt.seconds, seconds),
        )
