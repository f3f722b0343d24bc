from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.batches import Span, compose
from qwenctl.runtime.slots import Slot, choose_slot, common_prefix

_TOKENS = st.lists(st.integers(0, 2), max_size=12)


@dataclass(frozen=True)
class Pending:
    """A backlog as the scheduler's generations are."""

    sequence: int
    tokens: list[int]
    decoded: int


@given(_TOKENS, _TOKENS)
def test_common_prefix_is_where_they_first_differ(left: list[int], right: list[int]) -> None:
    """The halving search finds what a walk finds."""
    walk = next((at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
    assert common_prefix(left, right) == (min(len(left), len(right)) if walk is None else walk)


def test_the_slot_with_the_same_conversation_is_taken() -> None:
    """The longest common beginning wins over the slot that was released longest ago."""
    slots = [Slot(0, [9, 9], released=1), Slot(1, [1, 2, 3], released=2), Slot(2, [1, 2], released=3)]
    choice = choose_slot(slots, [1, 2, 3, 4])
    assert choice is not None
    assert (choice.slot.sequence, choice.reuse) == (1, 3)


def test_a_poor_match_leaves_the_conversation_alone() -> None:
    """A beginning below a tenth of the prompt is not worth another conversation's cache."""
    slots = [Slot(0, [1, 5, 6], released=2), Slot(1, [], released=0), Slot(2, [7], released=1)]
    choice = choose_slot(slots, [1, *range(100, 130)])
    assert choice is not None
    assert (choice.slot.sequence, choice.reuse) == (1, 0)


def test_busy_slots_are_not_for_choice() -> None:
    """None when all are busy."""
    assert choose_slot([Slot(0, [1, 2], busy=True)], [1, 2]) is None


def test_the_whole_prompt_is_never_reused() -> None:
    """One token stays to be decoded."""
    choice = choose_slot([Slot(0, [1, 2, 3])], [1, 2, 3])
    assert choice is not None and choice.reuse == 2


def test_generations_come_before_prompts() -> None:
    """A token for each that generates; the first prompt gets the rest of the batch."""
    backlogs = [Pending(2, [1] * 10, 0), Pending(1, [1] * 10, 0), Pending(0, [1, 2, 3], 2)]
    assert compose(backlogs, 6) == [Span(0, 2, [3], True), Span(2, 0, [1] * 5, False)]


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
            assert span.logits == (span.tokens == pending)
