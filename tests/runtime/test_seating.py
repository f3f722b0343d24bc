"""Who sits where, seen from the decoder: what is copied, waited for, kept and computed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.errors import GenerationFailed
from qwenctl.runtime.prompt_cache import PromptCache
from tests.runtime.scheduler_builders import end_of, mix, mixed, scheduling, submit
from tests.runtime.scripted_decoder import ScriptedDecoder, always, never

SYSTEM = list(range(1000, 1100))


def computed(decoder: ScriptedDecoder) -> int:
    """The tokens of all decode calls."""
    return sum(len(span.tokens) for call in decoder.calls for span in call)


def test_a_burst_with_one_prefix_computes_it_once() -> None:
    """The later ones wait for the first and copy; the usage and the stats say so."""
    decoder = ScriptedDecoder(mix, batch_tokens=32)
    decoder.hold = always
    with scheduling(decoder, slots=4) as scheduler:
        jobs = [
            submit(scheduler, [*SYSTEM, number], max_tokens=2, context_length=200)[0] for number in range(4)
        ]
        decoder.hold = never
        ends = [end_of(inbox) for inbox in jobs]
        stats = scheduler.stats()
    assert [text for text, _ in ends] == [mixed([*SYSTEM, number], 2) for number in range(4)]
    assert [end.usage.cached_tokens for _, end in ends] == [0, 100, 100, 100]
    assert (stats.prompt_tokens, stats.cached_tokens) == (404, 300)
    assert computed(decoder) == 100 + 4 + 4, "the prefix, an own token each, and one answer token"


def test_the_first_in_the_burst_is_not_slowed_down() -> None:
    """It alone is decoded until the prefix is there, in batches as large as they may be."""
    decoder = ScriptedDecoder(mix, batch_tokens=32)
    decoder.hold = always
    with scheduling(decoder) as scheduler:
        jobs = [
            submit(scheduler, [*SYSTEM, number], max_tokens=1, context_length=200)[0] for number in range(2)
        ]
        decoder.hold = never
        for inbox in jobs:
            end_of(inbox)
    sizes = [[len(span.tokens) for span in call] for call in decoder.calls]
    assert sizes == [[32], [32], [32], [5], [1]]


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_goes_on_when_the_first_is_gone(fails: bool) -> None:
    """Cancelled or failed in the middle of the prefix: the next takes what there is and does the rest."""
    decoder = ScriptedDecoder(mix, batch_tokens=40)
    decoder.hold = lambda spans: spans[0].start == 80
    with scheduling(decoder) as scheduler:
        first, cancel = submit(scheduler, [*SYSTEM, 1], max_tokens=1, context_length=200)
        second, _ = submit(scheduler, [*SYSTEM, 2], max_tokens=3, context_length=200)
        assert decoder.held.get(timeout=10) == 1
        if fails:
            decoder.poison = 1
        else:
            cancel()
        decoder.hold = never
        text, end = end_of(second)
        if fails:
            assert isinstance(first.get(timeout=10), GenerationFailed)
        else:
            assert end_of(first)[1].reason == "cancelled"
    assert (text, end.usage.cached_tokens) == (mixed([*SYSTEM, 2], 3), 80)


def test_who_waits_can_be_cancelled() -> None:
    """It leaves its seat, and the first goes on."""
    decoder = ScriptedDecoder(mix, batch_tokens=40)
    decoder.hold = always
    with scheduling(decoder) as scheduler:
        first, _ = submit(scheduler, [*SYSTEM, 1], max_tokens=2, context_length=200)
        assert decoder.held.get(timeout=10) == 1
        second, cancel = submit(scheduler, [*SYSTEM, 2], context_length=200)
        decoder.hold = lambda spans: spans[0].start == 80
        assert decoder.held.get(timeout=10) == 1
        cancel()
        decoder.hold = never
        assert end_of(second)[1].reason == "cancelled"
        assert end_of(first)[0] == mixed([*SYSTEM, 1], 2)
    assert decoder.copies == []


def test_others_are_not_held_up_by_a_wait() -> None:
    """A prompt without the prefix is decoded beside the one that others wait for."""
    decoder = ScriptedDecoder(mix, batch_tokens=60)
    decoder.hold = always
    with scheduling(decoder, slots=3) as scheduler:
        prompts = ([*SYSTEM, 1], [*SYSTEM, 2], [7, 8])
        jobs = [submit(scheduler, prompt, max_tokens=1, context_length=200)[0] for prompt in prompts]
        decoder.hold = never
        assert [end_of(inbox)[0] for inbox in jobs] == [mixed(prompt, 1) for prompt in prompts]
    first = next(number for number, call in enumerate(decoder.calls) for span in call if 7 in span.tokens)
    second = next(number for number, call in enumerate(decoder.calls) for span in call if 2 in span.tokens)
    assert first < second


def test_a_shared_beginning_does_not_cost_the_other_conversation() -> None:
    """A new chat copies the system prompt; the long conversation it came from goes on from its cache."""
    decoder = ScriptedDecoder(mix, batch_tokens=512)
    long = [*SYSTEM, *range(2000, 2300)]
    with scheduling(decoder) as scheduler:
        end_of(submit(scheduler, long, max_tokens=1, context_length=1000)[0])
        _, end = end_of(submit(scheduler, [*SYSTEM, 5, 6], max_tokens=1, context_length=1000)[0])
        assert end.usage.cached_tokens == 100
        _, end = end_of(submit(scheduler, [*long, 7], max_tokens=1, context_length=1000)[0])
        assert end.usage.cached_tokens == 400


def test_recurrent_models_neither_wait_nor_copy() -> None:
    """Each computes its own prompt."""
    decoder = ScriptedDecoder(mix, batch_tokens=64, rewinds=False)
    decoder.hold = always
    with scheduling(decoder) as scheduler:
        jobs = [
            submit(scheduler, [*SYSTEM, number], max_tokens=2, context_length=200)[0] for number in range(2)
        ]
        decoder.hold = never
        for number, inbox in enumerate(jobs):
            text, end = end_of(inbox)
            assert (text, end.usage.cached_tokens) == (mixed([*SYSTEM, number], 2), 0)


FIRST, SECOND, THIRD = ([number * 1000 + at for at in range(300)] for number in (1, 2, 3))


@pytest.mark.parametrize("rewinds", [True, False])
def test_a_conversation_comes_back_from_ram(rewinds: bool) -> None:
    """After others took all slots, its second turn computes only what is new."""
    cache = PromptCache(10_000, lambda: 1_000_000)
    decoder = ScriptedDecoder(mix, batch_tokens=512, rewinds=rewinds)
    with scheduling(decoder, 1, cache) as scheduler:
        for prompt in (FIRST, SECOND, THIRD):
            end_of(submit(scheduler, prompt, max_tokens=1, context_length=1000)[0])
        assert cache.held_bytes == 2400
        text, end = end_of(submit(scheduler, [*FIRST, 5], max_tokens=2, context_length=1000)[0])
        assert (text, end.usage.cached_tokens) == (mixed([*FIRST, 5], 2), 300)
        assert cache.held_bytes == 2400, "the one that came back is gone, the one it replaced is there"
        assert scheduler.stats().cached_tokens == 300


def test_what_is_short_or_known_is_not_kept() -> None:
    """Below 256 tokens nothing is saved, nor what the next prompt goes on with."""
    decoder = ScriptedDecoder(mix, batch_tokens=512)
    with scheduling(decoder, 1, PromptCache(10_000, lambda: 1_000_000)) as scheduler:
        for prompt in (FIRST[:200], SECOND, [*SECOND, 1, 2], [*SECOND, 1, 3]):
            end_of(submit(scheduler, prompt, max_tokens=1, context_length=1000)[0])
    assert decoder.saves == []


def test_without_a_cache_nothing_is_kept() -> None:
    """The conversation is computed anew."""
    decoder = ScriptedDecoder(mix, batch_tokens=512)
    with scheduling(decoder, 1) as scheduler:
        for prompt in (FIRST, SECOND, FIRST):
            _, end = end_of(submit(scheduler, prompt, max_tokens=1, context_length=1000)[0])
            assert end.usage.cached_tokens == 0
    assert decoder.saves == []


PREFIX = [*range(1000, 1080)]
ENDS = st.lists(st.integers(1, 3), min_size=1, max_size=6)
PROMPTS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 300), ENDS), min_size=1, max_size=8)


def prompt_of(shared: int, own: int, end: list[int]) -> list[int]:
    """A prompt that shares its first tokens, and perhaps more of its middle, with others."""
    return [*PREFIX[:shared], *range(5000, 5000 + own), *end]


@settings(max_examples=60, deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(8, 90), st.sets(st.integers(0, 7)), st.booleans())
def test_copies_and_saved_states_never_leak(
    parts: list[tuple[int, int, list[int]]], slots: int, batch: int, impatient: set[int], rewinds: bool
) -> None:
    """Whatever is shared, waited for, saved and cancelled: every answer is what it is alone."""
    prompts = [prompt_of(*part) for part in parts]
    decoder = ScriptedDecoder(mix, batch_tokens=batch, rewinds=rewinds)
    with scheduling(decoder, slots, PromptCache(4000, lambda: 1_000_000)) as scheduler:
        jobs = [submit(scheduler, prompt, max_tokens=5, context_length=500) for prompt in prompts]
        for number in impatient & set(range(len(jobs))):
            jobs[number][1]()
        ends = [end_of(inbox) for inbox, _ in jobs]
    for number, (prompt, (text, end)) in enumerate(zip(prompts, ends, strict=True)):
        assert end.reason == "length" or number in impatient
        assert mixed(prompt, 5).startswith(text)
        assert end.reason != "length" or text == mixed(prompt, 5)
