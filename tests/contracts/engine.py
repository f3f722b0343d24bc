"""What every engine does, as functions that take a way to open one. No pytest here.

`Open(slots, context_length)` gives a fresh engine whose answer to "go on: …" is long: at least 40 tokens,
and slow enough, with the largest context, to be met in mid-answer.
"""

import threading
from collections.abc import Callable
from queue import Queue

from qwenctl.errors import GenerationFailed, PromptTooLong, QwenctlError
from qwenctl.runtime.engine import CompletionRequest, Engine
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta
from qwenctl.runtime.sampling import Sampling

Open = Callable[[int, int], Engine]

LARGEST_CONTEXT = 4096
_GREEDY = Sampling(temperature=0)
_PATIENCE_SECONDS = 30


def ask(
    topic: str = "a b c d e f g", *, max_tokens: int | None = 40, stop: tuple[str, ...] = ()
) -> CompletionRequest:
    """A request with a long answer that is the same every time."""
    prompt = f"go on: {topic} and then some more words"
    return CompletionRequest(prompt=prompt, sampling=_GREEDY, max_tokens=max_tokens, stop=stop)


def text_of(events: list[Event]) -> str:
    """The text of all deltas."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def run(engine: Engine, request: CompletionRequest) -> tuple[str, Finished]:
    """Text and end of one request, alone."""
    events = list(engine.generate(request))
    last = events[-1]
    assert isinstance(last, Finished)
    return text_of(events), last


def events_come_in_order(open_engine: Open) -> None:
    """One `PromptProcessed`, then text, then one `Finished`, whose usage agrees with them."""
    engine = open_engine(2, 512)
    events = list(engine.generate(ask()))
    kinds = [type(event) for event in events]
    assert kinds[0] is PromptProcessed and kinds[-1] is Finished
    assert set(kinds[1:-1]) == {TextDelta}
    first, last = events[0], events[-1]
    assert isinstance(first, PromptProcessed) and isinstance(last, Finished)
    assert first.prompt_tokens == last.usage.prompt_tokens == engine.count_tokens(ask())
    said = [event for event in events if isinstance(event, TextDelta)]
    assert all(event.text and event.tokens > 0 for event in said)
    assert sum(event.tokens for event in said) <= last.usage.completion_tokens
    engine.close()


def greedy_answers_repeat(open_engine: Open) -> None:
    """The same greedy request gives the same text, whatever ran before."""
    engine = open_engine(1, 512)
    first, _ = run(engine, ask())
    run(engine, ask("something else"))
    assert run(engine, ask())[0] == first != ""
    engine.close()


def company_changes_nothing(open_engine: Open) -> None:
    """Requests that run side by side, more of them than slots, get the texts they get alone."""
    topics = [f"topic {number} " + "of many words " * (number % 3) for number in range(9)]
    engine = open_engine(1, 512)
    alone = [run(engine, ask(topic))[0] for topic in topics]
    engine.close()
    engine = open_engine(4, 512)
    together: dict[str, str] = {}

    def one(topic: str) -> None:
        together[topic] = run(engine, ask(topic))[0]

    threads = [threading.Thread(target=one, args=(topic,)) for topic in topics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_SECONDS)
    assert [together[topic] for topic in topics] == alone
    engine.close()


def limits_hold(open_engine: Open) -> None:
    """`max_tokens` ends an answer, to the token; so does a full context."""
    engine = open_engine(1, 64)
    _, end = run(engine, ask(max_tokens=3))
    assert (end.reason, end.usage.completion_tokens) == ("length", 3)
    _, end = run(engine, ask(max_tokens=None))
    assert end.reason == "length"
    assert end.usage.prompt_tokens + end.usage.completion_tokens == 64
    engine.close()


def stop_strings_end_and_stay_hidden(open_engine: Open) -> None:
    """The answer ends before the first stop string, wherever the borders of tokens lie."""
    engine = open_engine(1, 512)
    whole, _ = run(engine, ask())
    stop = whole[10:15]
    text, end = run(engine, ask(stop=("never said", stop)))
    assert (text, end.reason, end.stop) == (whole[: whole.index(stop)], "stop", stop)
    engine.close()


def closing_the_stream_frees_the_slot(open_engine: Open) -> None:
    """After a stream is closed in mid-answer, the only slot serves the next request."""
    engine = open_engine(1, LARGEST_CONTEXT)
    stream = engine.generate(ask(" word" * 300, max_tokens=None))
    next(stream)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # an iterator made by a generator
    _, end = run(engine, ask(max_tokens=3))
    assert end.reason == "length"
    assert engine.stats().running == 0
    engine.close()


def cancelling_says_so(open_engine: Open) -> None:
    """A cancelled request ends with `Finished("cancelled")`, in mid-answer and in the queue alike."""
    engine = open_engine(1, LARGEST_CONTEXT)
    running: Queue[Event | QwenctlError] = Queue()
    waiting: Queue[Event | QwenctlError] = Queue()
    cancel_running = engine.start(ask(" word" * 300, max_tokens=None), running.put)
    assert isinstance(running.get(timeout=_PATIENCE_SECONDS), PromptProcessed)
    cancel_waiting = engine.start(ask(), waiting.put)
    cancel_waiting()
    end = waiting.get(timeout=_PATIENCE_SECONDS)
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.completion_tokens) == ("cancelled", 0)
    cancel_running()
    while not isinstance(last := running.get(timeout=_PATIENCE_SECONDS), Finished):
        assert isinstance(last, TextDelta)
    assert last.reason == "cancelled"
    cancel_running()
    engine.close()


def a_long_prompt_is_refused_alone(open_engine: Open) -> None:
    """A prompt that fills the context raises with both numbers; another request goes on."""
    engine = open_engine(2, 128)
    other = engine.generate(ask())
    next(other)
    long = ask("word " * 100)
    try:
        run(engine, long)
    except PromptTooLong as error:
        assert str(engine.count_tokens(long)) in error.message and "128" in error.message
    else:
        raise AssertionError("the prompt does not fit")
    assert isinstance([*other][-1], Finished)
    engine.close()


def closing_fails_what_runs(open_engine: Open) -> None:
    """`close` ends running and waiting requests with an error, refuses new ones, and may be called again."""
    engine = open_engine(1, LARGEST_CONTEXT)
    inboxes: list[Queue[Event | QwenctlError]] = [Queue(), Queue()]
    for inbox in inboxes:
        engine.start(ask(" word" * 300, max_tokens=None), inbox.put)
    assert isinstance(inboxes[0].get(timeout=_PATIENCE_SECONDS), PromptProcessed)
    engine.close()
    for inbox in inboxes:
        while not isinstance(last := inbox.get(timeout=_PATIENCE_SECONDS), QwenctlError):
            assert not isinstance(last, Finished)
        assert isinstance(last, GenerationFailed)
    engine.close()
    try:
        engine.start(ask(), inboxes[0].put)
    except GenerationFailed:
        return
    raise AssertionError("a closed engine takes no requests")


SUITE: tuple[Callable[[Open], None], ...] = (
    events_come_in_order,
    greedy_answers_repeat,
    company_changes_nothing,
    limits_hold,
    stop_strings_end_and_stay_hidden,
    closing_the_stream_frees_the_slot,
    cancelling_says_so,
    a_long_prompt_is_refused_alone,
    closing_fails_what_runs,
)
