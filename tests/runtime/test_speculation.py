import random
from array import array
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.errors import GenerationFailed
from qwenctl.runtime.draws import draw
from qwenctl.runtime.events import Likelihood, TokenLogprob
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.scheduler import Drafting
from qwenctl.runtime.speculation import Guess, Lookup, Pace, look_up
from tests.runtime.scheduler_builders import end_of, mix, mixed, scheduling, submit
from tests.runtime.scripted_decoder import ScriptedDecoder, count_up, never


def walked(tokens: list[int], count: int) -> list[int]:
    """What `look_up` finds, found by walking back."""
    for size in (4, 3, 2):
        for start in range(len(tokens) - size - 1, -1, -1):
            if tokens[start : start + size] == tokens[-size:] and len(tokens) > size:
                return tokens[start + size : start + size + count]
    return []


@given(st.lists(st.sampled_from([0, 1, 2, 256, 65536]), max_size=30), st.integers(1, 8))
def test_look_up_finds_what_followed_last_time(tokens: list[int], count: int) -> None:
    """The longest run of last tokens that came before, at its last place; bytes do not deceive it."""
    assert look_up(array("i", tokens).tobytes(), count) == walked(tokens, count)


@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 2), max_size=5)), max_size=20))
def test_a_lookup_follows_its_sequences(steps: list[tuple[int, list[int]]]) -> None:
    """Lists that grow, shrink, or are those of another request give what a fresh look gives."""
    lookup, held = Lookup(), {0: [1, 2], 1: [2, 1]}
    for sequence, more in steps:
        if len(more) == 5:
            held[sequence] = [*more]
        elif len(more) == 4:
            del held[sequence][1:-1]
        else:
            held[sequence] += more
        (found,) = lookup.draft([Guess(sequence, held[sequence], 4)])
        assert found == walked(held[sequence], 4)
    lookup.close()


def test_a_request_that_guesses_badly_rests() -> None:
    """After 32 wrong guesses there are none for 64 tokens; right ones go on."""
    pace = Pace()
    for _ in range(4):
        assert pace.due()
        pace.note(8, 0)
    assert [pace.due() for _ in range(65)] == [False] * 64 + [True]
    for _ in range(20):
        pace.note(8, 4)
        assert pace.due()


class Prophet:
    """A drafter that knows what `mix` gives, and lies now and then."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)

    def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
        """See `Drafter`."""
        return [self._one(guess) for guess in guesses]

    def _one(self, guess: Guess) -> list[int]:
        tokens = list(guess.tokens)
        for _ in range(self._chance.randint(0, guess.count)):
            tokens.append(mix(tokens) if self._chance.random() < 0.8 else 77)
        return tokens[len(guess.tokens) :]

    def close(self) -> None:
        """See `Drafter`."""


PROMPTS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(3, 20), st.integers(0, 99), st.integers(1, 20))
def test_guesses_never_change_an_answer(
    prompts: list[list[int]], slots: int, batch: int, seed: int, limit: int
) -> None:
    """Right and wrong ones, in any company, up to any limit."""
    decoder = ScriptedDecoder(mix, batch_tokens=batch)
    with scheduling(decoder, slots, drafting=Drafting(Prophet(seed), 5)) as scheduler:
        jobs = [submit(scheduler, prompt, max_tokens=limit, context_length=24)[0] for prompt in prompts]
        for prompt, (text, end) in zip(prompts, map(end_of, jobs), strict=True):
            count = min(limit, 24 - len(prompt))
            assert (text, end.usage.completion_tokens) == (mixed(prompt, count), count)
        stats = scheduler.stats()
    assert stats.accepted_tokens <= stats.drafted_tokens


def test_an_end_among_the_guesses_ends_the_answer() -> None:
    """The token that ends is not followed by the rest of the draft."""

    class Endless:
        def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
            return [[2, 1, 0, 5, 5][: guess.count] for guess in guesses]

        def close(self) -> None:
            pass

    decoder = ScriptedDecoder(lambda tokens: tokens[-1] - 1, batch_tokens=64)
    with scheduling(decoder, drafting=Drafting(Endless(), 8)) as scheduler:
        text, end = end_of(submit(scheduler, [4], max_tokens=20)[0])
    assert (text, end.reason, end.usage.completion_tokens) == ("3 2 1 ", "stop", 4)


def test_a_model_that_cannot_take_back_does_not_guess() -> None:
    """A recurrent one runs without."""
    decoder = ScriptedDecoder(count_up, rewinds=False)
    with scheduling(decoder, drafting=Drafting(Lookup(), 8)) as scheduler:
        assert end_of(submit(scheduler, [1, 2, 3, 1, 2, 3])[0])[0] == "4 5 6 "
        assert scheduler.stats().drafted_tokens == 0


class Tenfold:
    """A sampler that draws ten times the row, and has no token for row 9."""

    def sample(self, row: int) -> int:
        """See `Sampler`."""
        if row == 9:
            raise GenerationFailed("no way on")
        return row * 10

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """See `Sampler`."""
        return TokenLogprob(Likelihood(token, b"", float(top)))

    def close(self) -> None:
        """See `Sampler`."""


def test_guesses_are_drawn_as_far_as_they_are_right() -> None:
    """Up to the first wrong one, an end, or an error, which leaves what came before it."""

    def drawn(row: int, draft: Sequence[int], top: int | None = None) -> tuple[list[int], bool]:
        came, error = draw(Tenfold(), row, draft, top, lambda token: token == 20)
        assert all((logprob is None) == (top is None) for _, logprob in came)
        return [token for token, _ in came], error is not None

    assert drawn(3, ()) == ([30], False)
    assert drawn(3, (30, 40), 2) == ([30, 40, 50], False)
    assert drawn(3, (30, 77, 50)) == ([30, 40], False)
    assert drawn(1, (10, 20, 30)) == ([10, 20], False)
    assert drawn(8, (80, 90)) == ([80], True)


def test_a_lookup_sees_that_a_context_moved_on() -> None:
    """Even where the request rested from guessing until it was as long as before."""
    lookup, events = Lookup(), list[object]()
    generation = Generation(Task([1, 2, 3, 4, 5, 6], overflow="shift"), events.append, 8)
    generation.begin(0, 0)
    lookup.draft([Guess(0, generation.tokens, 4)])
    generation.shift(3)
    for token in (7, 8, 9, 5, 6, 7):
        generation.accept(token, b"", False)
    assert lookup.draft([Guess(0, generation.tokens, 4)]) == [walked(generation.tokens, 4)]


def test_guesses_leave_room_for_prompts() -> None:
    """However long the drafts: who comes later is served while an answer is guessed."""

    class Endless:
        def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
            return [
                list(range(guess.tokens[-1] + 1, guess.tokens[-1] + 1 + guess.count)) for guess in guesses
            ]

        def close(self) -> None:
            pass

    decoder = ScriptedDecoder(batch_tokens=8)
    with scheduling(decoder, drafting=Drafting(Endless(), 20)) as scheduler:
        decoder.hold = lambda spans: spans[0].start > 20
        long, _ = submit(scheduler, [1], max_tokens=700, context_length=1000)
        decoder.held.get(timeout=10)
        short, _ = submit(scheduler, [5] * 30, max_tokens=2, context_length=1000)
        decoder.hold = never
        end_of(short)
        end_of(long)
    last = max(number for number, call in enumerate(decoder.calls) for span in call if 5 in span.tokens)
    assert len(decoder.calls) > last + 50
