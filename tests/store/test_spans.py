"""Spans against the set of bytes that they stand for."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qwenctl.store.spans import Spans

SIZE = 40
PAIRS = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


def bytes_of(pairs: list[tuple[int, int]]) -> set[int]:
    """Every byte of some spans."""
    return {byte for first, end in pairs for byte in range(first, end)}


@given(PAIRS)
def test_they_are_a_set_of_bytes(pairs: list[tuple[int, int]]) -> None:
    """In whatever order they come, spans hold the same bytes, sorted and apart."""
    spans, expected = Spans(pairs), bytes_of(pairs)
    assert bytes_of(list(spans)) == expected
    assert spans.total == len(expected)
    held = list(spans)
    assert all(first < end for first, end in held)
    assert all(left[1] < right[0] for left, right in pairwise(held))
    assert spans == Spans(reversed(pairs))


@given(PAIRS, st.integers(0, SIZE))
def test_gaps_are_the_rest(pairs: list[tuple[int, int]], size: int) -> None:
    """What is missing of a size is exactly what is not held."""
    spans = Spans(pairs)
    assert bytes_of(list(spans.gaps(size))) == set(range(size)) - bytes_of(pairs)


@given(PAIRS, st.integers(0, SIZE))
def test_within_and_prefix(pairs: list[tuple[int, int]], size: int) -> None:
    """A size cuts off; the prefix ends before the first byte that is missing."""
    spans, expected = Spans(pairs), bytes_of(pairs)
    assert bytes_of(list(spans.within(size))) == {byte for byte in expected if byte < size}
    assert spans.prefix == next(byte for byte in range(SIZE + 1) if byte not in expected)


def test_a_copy_is_apart() -> None:
    """What is added to a copy is not in the original."""
    spans = Spans([(0, 3)])
    copy = spans.copy()
    copy.add(3, 9)
    assert (spans.total, copy.total) == (3, 9)
