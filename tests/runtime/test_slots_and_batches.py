from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.batches import Span, compose
from qwenctl.runtime.slots import Seat, Slot, choose_seat, common_prefix

_TOKENS = st.lists(st.integers(0, 2), max_size=12)


@dataclass(frozen=True)
class Pending:
    """A backlog as the scheduler's generations are."""

    sequence: int
    tokens: list[int]
    decoded: int
    draft: tuple[int, ...] = ()

    @property
    def intact(self) -> int:
        """As `Occupant` has it."""
        return self.decoded

    @property
    def prefilling(self) -> bool:
        """As `Occupant` has it."""
        return len(self.tokens) - self.decoded > 1


@given(_TOKENS, _TOKENS)
def test_common_prefix_is_where_they_first_differ(left: list[int], right: list[int]) -> None:
    """The halving search finds what a walk finds."""
    walk = next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
    assert common_prefix(left, right) == (min(len(left), len(right)) if walk is None else walk)


def seat(slots: list[Slot], prompt: list[int]) -> tuple[int, int, int | None, int]:
    """The chosen sequence, what it has, whom it copies from, and how much."""
    chosen = choose_seat(slots, prompt)
    assert chosen is not None
    source = chosen.source.sequence if chosen.source else None
    return chosen.slot.sequence, chosen.reuse, source, chosen.shared


def test_the_slot_with_the_same_conversation_is_taken() -> None:
    """The longest common beginning wins over the slot that was released longest ago."""
    slots = [Slot(0, [9, 9], released=1), Slot(1, [1, 2, 3], released=2), Slot(2, [1, 2], released=3)]
    assert seat(slots, [1, 2, 3, 4]) == (1, 3, None, 0)


def test_a_poor_match_leaves_the_conversation_alone() -> None:
    """A beginning below a tenth of the prompt is not worth another conversation's cache."""
    slots = [Slot(0, [1, 5, 6], released=2), Slot(1, [], released=0), Slot(2, [7], released=1)]
    assert seat(slots, [1, *range(100, 130)]) == (1, 0, None, 0)


def test_where_somebody_loses_anyway_it_is_who_loses_little() -> None:
    """With no slot empty, a short rest behind a shared beginning goes before another's whole conversation."""
    short, other = [1, 2, 3, *range(100, 200)], [*range(300, 400)]
    prompt = [1, 2, 3, *range(500, 510)]
    assert seat([Slot(0, short, released=2), Slot(1, other, released=1)], prompt) == (0, 3, None, 0)
    assert seat([Slot(0, short, released=2), Slot(1, [], released=0)], prompt) == (1, 0, None, 0)
    long = [1, 2, 3, *range(100, 500)]
    assert seat([Slot(0, long, released=2), Slot(1, other, released=1)], prompt) == (1, 0, None, 0)


def test_those_who_work_sit_side_by_side() -> None:
    """Beside a busy slot, where decoding is faster, unless another has clearly more or much would be lost."""
    busy = Slot(2, occupant=Pending(2, [9] * 50, 50))
    prompt = [1, *range(500, 510)]
    assert seat([Slot(0), Slot(1), busy, Slot(3, [7], released=5)], prompt)[0] == 1
    assert seat([Slot(0), Slot(1, [*range(600, 900)]), busy, Slot(3, [7], released=5)], prompt)[0] == 3
    known = [*range(100, 200)]
    slots = [Slot(0, known, released=1), Slot(1), busy, Slot(3)]
    assert seat(slots, [*known, 5]) == (0, 100, None, 0)


def test_busy_slots_are_not_for_choice() -> None:
    """None when all are busy."""
    assert choose_seat([Slot(0, occupant=Pending(0, [1, 2], 2))], [1, 2]) is None


def test_the_whole_prompt_is_never_reused() -> None:
    """One token stays to be decoded."""
    assert seat([Slot(0, [1, 2, 3])], [1, 2, 3]) == (0, 2, None, 0)


SYSTEM = list(range(1000, 1100))


def test_a_busy_sequence_lends_its_beginning() -> None:
    """What a busy slot holds more of the prompt is copied into the idle slot released longest ago."""
    busy = Slot(0, occupant=Pending(0, [*SYSTEM, 1, 2], 102))
    slots = [busy, Slot(2, [5], released=2), Slot(3, [6], released=1)]
    assert seat(slots, [*SYSTEM, 3]) == (3, 0, 0, 100)
    assert seat(slots, [*SYSTEM[:40], 3]) == (3, 0, None, 0), "too little to be worth a copy"


def test_a_prompt_that_is_being_decoded_is_waited_for() -> None:
    """What it will hold counts, and a sequence that generates is no prompt."""
    slots = [Slot(0, occupant=Pending(0, [*SYSTEM, 1, 2], 10)), Slot(1)]
    assert seat(slots, [*SYSTEM, 3]) == (1, 0, 0, 100)


def test_a_long_other_conversation_is_kept() -> None:
    """To go on in its slot would lose it: its beginning is copied, where another slot is idle."""
    conversation = Slot(0, [*SYSTEM, *range(500)], released=1)
    assert seat([conversation, Slot(1, [7], released=2)], [*SYSTEM, 600]) == (0, 100, None, 0), (
        "it is the oldest"
    )
    assert seat([conversation, Slot(1)], [*SYSTEM, 600]) == (1, 0, 0, 100)
    assert seat([conversation, Slot(1)], [*SYSTEM, *range(490), 9]) == (0, 590, None, 0), (
        "the same one goes on"
    )


def test_what_cannot_be_cut_is_gone_on_with_as_a_whole() -> None:
    """A recurrent model's slot is taken only by a prompt that begins with all of it."""
    slots = [Slot(0, [*SYSTEM, 1], released=1), Slot(1, [7], released=2), Slot(2)]
    assert choose_seat(slots, [*SYSTEM, 2, 3], rewinds=False) == Seat(slots[2], 0)
    assert choose_seat(slots, [*SYSTEM, 1, 3], rewinds=False) == Seat(slots[0], 101)


def test_generations_come_before_prompts() -> None:
    """A token for each that generates; the first prompt gets the rest of the batch."""
    backlogs = [Pending(2, [1] * 10, 0), Pending(1, [1] * 10, 0), Pending(0, [1, 2, 3], 2)]
    assert compose(backlogs, 6) == [Span(0, 2, [3], 1), Span(2, 0, [1] * 5, 0)]


def test_drafts_come_before_prompts_and_are_of_one_length() -> None:
    """The shortest draft, and what fits, decides for all; each drafted row can be sampled.

    Half of the room is left to prompts.
    """
    drafts = [Pending(0, [3], 0, (4, 5, 6)), Pending(1, [7], 0, (8, 9))]
    assert compose(drafts, 6) == [Span(0, 0, [3, 4, 5], 3), Span(1, 0, [7, 8, 9], 3)]
    backlogs = [Pending(2, [1] * 10, 0), *drafts]
    assert compose(backlogs, 10) == [
        Span(0, 0, [3, 4, 5], 3),
        Span(1, 0, [7, 8, 9], 3),
        Span(2, 0, [1] * 4, 0),
    ]
    assert compose(backlogs, 7) == [Span(0, 0, [3, 4], 2), Span(1, 0, [7, 8], 2), Span(2, 0, [1] * 3, 0)]
    assert compose(backlogs, 3) == [Span(0, 0, [3], 1), Span(1, 0, [7], 1), Span(2, 0, [1], 0)]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8)), max_size=6), st.integers(6, 20))
def test_composed_batches_are_within_bounds(sizes: list[tuple[int, int]], limit: int) -> None:
    """Never more than the limit, always something while something waits, every generation in it."""
    backlogs = [Pending(n, list(range(size)), min(done, size - 1)) for n, (size, done) in enumerate(sizes)]
    spans = compose(backlogs, limit)
    assert sum(len(span.tokens) for span in spans) <= limit
    assert bool(spans) == bool(backlogs)
    taken = {span.sequence: span for span in spans}
    for backlog in backlogs:
        span = taken.get(backlog.sequence)
        pending = backlog.tokens[backlog.decoded :]
        assert span is not None or len(pending) > 1
        if span is not None:
            assert span.tokens == pending[: len(span.tokens)] and span.start == backlog.decoded
            assert span.logits == int(span.tokens == pending)
