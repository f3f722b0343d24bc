"""Schedulers over a `ScriptedDecoder`, and requests to them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue

from qwenctl.errors import QwenctlError
from qwenctl.runtime.engine import Cancel, Overflow
from qwenctl.runtime.events import Event, Finished, TextDelta
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.prompt_cache import PromptCache
from qwenctl.runtime.scheduler import Drafting, Scheduler
from tests.runtime.scripted_decoder import ScriptedDecoder, never

Inbox = Queue[Event | QwenctlError]


@contextmanager
def scheduling(
    decoder: ScriptedDecoder,
    slots: int = 2,
    cache: PromptCache | None = None,
    drafting: Drafting | None = None,
) -> Iterator[Scheduler]:
    """A scheduler that is closed at the end, and then has no sampler left."""
    scheduler = Scheduler(decoder, slots, cache, drafting)
    try:
        yield scheduler
    finally:
        decoder.hold = never
        scheduler.close()
        assert decoder.samplers_open == 0


def submit(
    scheduler: Scheduler,
    prompt: list[int],
    max_tokens: int | None = 3,
    context_length: int = 100,
    overflow: Overflow = "refuse",
) -> tuple[Inbox, Cancel]:
    """Submits a prompt; what it causes comes into the inbox."""
    inbox: Inbox = Queue()
    cancel = scheduler.submit(
        Generation(Task(prompt, max_tokens=max_tokens, overflow=overflow), inbox.put, context_length)
    )
    return inbox, cancel


def end_of(inbox: Inbox) -> tuple[str, Finished]:
    """Text and end of what `inbox` gets."""
    text = ""
    while not isinstance(item := inbox.get(timeout=10), Finished):
        assert not isinstance(item, QwenctlError), item
        text += item.text if isinstance(item, TextDelta) else ""
    return text, item


def mix(tokens: Sequence[int]) -> int:
    """A next token that depends on every token before and its place."""
    return 1 + sum(place * token for place, token in enumerate(tokens, 1)) % 50


def mixed(prompt: Sequence[int], count: int) -> str:
    """The text of `count` tokens that `mix` makes of a prompt."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(mix(tokens))
    return "".join(f"{token} " for token in tokens[len(prompt) :])
