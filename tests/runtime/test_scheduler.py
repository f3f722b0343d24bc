from collections.abc import Sequence
from queue import Queue

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.errors import GenerationFailed, QwenctlError
from qwenctl.runtime.batches import Sampler
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.sampling import Sampling
from tests.runtime.scheduler_builders import Inbox, end_of, mix, mixed, scheduling, submit
from tests.runtime.scripted_decoder import END, ScriptedDecoder, always, never


def test_one_request_runs_to_its_limit() -> None:
    """A prompt longer than a batch is decoded in chunks, then one token at a time."""
    decoder = ScriptedDecoder(batch_tokens=4)
    with scheduling(decoder) as scheduler:
        text, end = end_of(submit(scheduler, list(range(1, 11)))[0])
    assert (text, end.reason) == ("11 12 13 ", "length")
    assert [len(call[0].tokens) for call in decoder.calls] == [4, 4, 2, 1, 1]


def test_the_model_ends_its_answer() -> None:
    """The end-of-generation token counts as completed and has no text."""

    def two_then_end(tokens: Sequence[int]) -> int:
        return END if len(tokens) == 5 else 7

    with scheduling(ScriptedDecoder(two_then_end)) as scheduler:
        text, end = end_of(submit(scheduler, [1, 2, 3], max_tokens=None)[0])
    assert (text, end.reason, end.usage.completion_tokens) == ("7 7 ", "stop", 3)


def test_prompts_are_prefilled_beside_generations() -> None:
    """A running generation gets its token in every call that works on another's long prompt."""
    decoder = ScriptedDecoder(batch_tokens=4)
    decoder.hold = always
    with scheduling(decoder) as scheduler:
        first, _ = submit(scheduler, [1], max_tokens=20)
        assert decoder.held.get(timeout=10) == 1
        second, _ = submit(scheduler, list(range(50, 60)), max_tokens=1)
        decoder.hold = never
        assert end_of(second)[0] == "60 "
        assert end_of(first)[1].usage.completion_tokens == 20
    mixed = [call for call in decoder.calls if len(call) == 2]
    assert [[len(span.tokens) for span in call] for call in mixed] == [[1, 3], [1, 3], [1, 3], [1, 1]]


def test_waiting_requests_are_served_in_order() -> None:
    """With one slot, requests finish in the order they came."""
    order: list[int] = []

    def noting(number: int, inbox: Inbox) -> None:
        def observe(item: Event | QwenctlError) -> None:
            if isinstance(item, Finished):
                order.append(number)
            inbox.put(item)

        scheduler.submit(Generation(Task([number + 1], max_tokens=2), observe, 100))

    with scheduling(ScriptedDecoder(), slots=1) as scheduler:
        inboxes: list[Inbox] = [Queue() for _ in range(6)]
        for number, inbox in enumerate(inboxes):
            noting(number, inbox)
        for inbox in inboxes:
            end_of(inbox)
    assert order == [0, 1, 2, 3, 4, 5]


def test_the_next_turn_decodes_only_what_is_new() -> None:
    """A prompt that begins with an idle slot's tokens reuses them; the other slot is left alone."""
    decoder = ScriptedDecoder(batch_tokens=64)
    with scheduling(decoder) as scheduler:
        end_of(submit(scheduler, [1, 2, 3])[0])  # its slot holds 1 2 3 4 5; 6 was never decoded
        end_of(submit(scheduler, [40, 41])[0])
        _, end = end_of(submit(scheduler, [1, 2, 3, 4, 5, 90, 91], max_tokens=1)[0])
        assert end.usage.cached_tokens == 5
        _, end = end_of(submit(scheduler, [40, 41], max_tokens=1)[0])
        assert end.usage.cached_tokens == 1, "one token is decoded again, for its logits"


def test_recurrent_models_start_over() -> None:
    """Where the cache cannot be cut, a prompt that goes another way is decoded from its beginning."""
    decoder = ScriptedDecoder(rewinds=False)
    with scheduling(decoder, slots=1) as scheduler:
        end_of(submit(scheduler, [1, 2, 3])[0])
        text, end = end_of(submit(scheduler, [1, 2, 9])[0])
    assert (text, end.usage.cached_tokens) == ("10 11 12 ", 0)


def test_cancelling_interrupts_a_decode() -> None:
    """The only request in a decode call does not wait for the call to end."""
    decoder = ScriptedDecoder()
    decoder.hold = always
    with scheduling(decoder) as scheduler:
        inbox, cancel = submit(scheduler, [1])
        assert decoder.held.get(timeout=10) == 1
        cancel()
        _, end = end_of(inbox)
        assert (end.reason, end.usage.completion_tokens, end.usage.prompt_tokens) == ("cancelled", 0, 1)


def test_an_interrupted_step_is_done_again_for_the_others() -> None:
    """Cancelling a long prompt beside a generation costs the generation nothing but time."""
    for rewinds in (True, False):
        decoder = ScriptedDecoder(rewinds=rewinds)
        with scheduling(decoder) as scheduler:
            decoder.hold = always
            first, _ = submit(scheduler, [1], max_tokens=8)
            assert decoder.held.get(timeout=10) == 1
            second, cancel = submit(scheduler, list(range(50, 90)))
            decoder.hold = lambda spans: len(spans) == 2
            assert decoder.held.get(timeout=10) == 2
            cancel()
            decoder.hold = never
            assert end_of(second)[1].reason == "cancelled"
            assert end_of(first)[0] == "2 3 4 5 6 7 8 9 "


def test_a_failing_request_fails_alone() -> None:
    """When a batch fails, its requests are tried one by one; only the one at fault ends."""
    for rewinds in (True, False):
        decoder = ScriptedDecoder(rewinds=rewinds)
        decoder.poison = 13
        decoder.hold = always
        with scheduling(decoder) as scheduler:
            good, _ = submit(scheduler, [1], max_tokens=9)
            bad, _ = submit(scheduler, [11], max_tokens=9)
            decoder.hold = never
            assert end_of(good)[0] == "2 3 4 5 6 7 8 9 10 "
            items = [bad.get(timeout=10) for _ in range(4)]
            assert [type(item) for item in items[:3]] == [PromptProcessed, TextDelta, TextDelta]
            assert isinstance(items[3], GenerationFailed) and "poison" in items[3].message


def test_a_bug_in_a_round_ends_the_requests_not_the_loop() -> None:
    """An unexpected exception fails what runs; the next request is served from a clean cache."""
    armed = [True]

    def explode_once(tokens: Sequence[int]) -> int:
        if armed and armed.pop():
            raise ZeroDivisionError
        return 5

    with scheduling(ScriptedDecoder(explode_once)) as scheduler:
        error = submit(scheduler, [1])[0].get(timeout=10)
        assert isinstance(error, GenerationFailed)
        assert end_of(submit(scheduler, [1])[0])[0] == "5 5 5 "


def test_a_bug_over_one_request_is_told_to_who_sent_it() -> None:
    """Also where it happens before the request has its seat; nothing stays open, and the next one runs."""

    class Broken(ScriptedDecoder):
        def sampler(self, sampling: Sampling, history: Sequence[int]) -> Sampler:
            if history[0] == 7:
                raise MemoryError("no room")
            return super().sampler(sampling, history)

        def keep(self, sequence: int, length: int) -> bool:
            if self.calls and not self.samplers_open - 1 and self.raises:
                self.raises = False
                raise MemoryError("no room")
            return super().keep(sequence, length)

        raises = False

    decoder = Broken()
    with scheduling(decoder) as scheduler:
        assert isinstance(submit(scheduler, [7])[0].get(timeout=10), GenerationFailed)
        assert end_of(submit(scheduler, [1])[0])[0] == "2 3 4 "
        decoder.raises = True
        assert isinstance(submit(scheduler, [2])[0].get(timeout=10), GenerationFailed)
        assert end_of(submit(scheduler, [3])[0])[0] == "4 5 6 "


def test_who_cancels_again_and_again_stops_nobody() -> None:
    """After a step that a cancelled prompt cost, the next one is done, whoever is cancelled in it."""
    decoder = ScriptedDecoder(batch_tokens=64)
    with scheduling(decoder, slots=3) as scheduler:
        decoder.hold = always
        first, _ = submit(scheduler, [1], max_tokens=3)
        assert decoder.held.get(timeout=10) == 1
        _, cancel = submit(scheduler, list(range(50, 60)))
        _, cancel_again = submit(scheduler, list(range(70, 90)))
        decoder.hold = lambda spans: len(spans) > 1
        assert decoder.held.get(timeout=10) == 3
        cancel()
        assert decoder.held.get(timeout=10) == 2
        cancel_again()
        steps = len(decoder.calls)
        decoder.hold = never
        assert end_of(first)[0] == "2 3 4 "
    assert len(decoder.calls) == steps + 1, "the held step was done"


def test_counters_add_up() -> None:
    """Stats tell slots, load and tokens."""
    with scheduling(ScriptedDecoder()) as scheduler:
        end_of(submit(scheduler, [1, 2, 3])[0])
        stats = scheduler.stats()
    assert (stats.slots, stats.running, stats.waiting) == (2, 0, 0)
    assert (stats.prompt_tokens, stats.cached_tokens, stats.completion_tokens) == (3, 0, 3)


PROMPTS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(3, 9), st.booleans(), st.sets(st.integers(0, 7)))
def test_any_mixture_gives_every_request_its_own_tokens(
    prompts: list[list[int]], slots: int, batch: int, rewinds: bool, impatient: set[int]
) -> None:
    """Chunks, neighbours, reused prefixes and cancelled requests never leak into another's answer."""
    decoder = ScriptedDecoder(mix, batch_tokens=batch, rewinds=rewinds)
    with scheduling(decoder, slots) as scheduler:
        jobs = [submit(scheduler, prompt, max_tokens=5) for prompt in prompts]
        for number in impatient & set(range(len(jobs))):
            jobs[number][1]()
        ends = [end_of(inbox) for inbox, _ in jobs]
    for number, (prompt, (text, end)) in enumerate(zip(prompts, ends, strict=True)):
        whole = mixed(prompt, 5)
        assert end.reason == "length" or number in impatient
        assert text == whole if end.reason == "length" else whole.startswith(text)
