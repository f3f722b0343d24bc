"""Which bytes of some content are there: half-open spans, sorted, apart from each other. Pure."""

from collections.abc import Iterable, Iterator
from typing import Self

Span = tuple[int, int]
"""From the first byte to the one after the last."""


class Spans:
    """A set of bytes as spans. Not for several threads at once."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._spans: list[Span] = []
        for first, end in spans:
            self.add(first, end)

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self._spans == other._spans

    def __repr__(self) -> str:
        return f"Spans({self._spans})"

    @property
    def total(self) -> int:
        """How many bytes there are."""
        return sum(end - first for first, end in self._spans)

    @property
    def prefix(self) -> int:
        """How many bytes there are from the very first on."""
        return self._spans[0][1] if self._spans and self._spans[0][0] == 0 else 0

    def add(self, first: int, end: int) -> None:
        """Take in the bytes from `first` to before `end`, whether they are there already or not."""
        if first >= end:
            return
        if self._spans and self._spans[-1][0] <= first <= self._spans[-1][1]:  # what nearly always happens
            last_first, last_end = self._spans[-1]
            self._spans[-1] = (last_first, max(last_end, end))
            return
        apart = [span for span in self._spans if span[1] < first or span[0] > end]
        touching = [span for span in self._spans if not (span[1] < first or span[0] > end)]
        joined = (
            min([first, *(span[0] for span in touching)]),
            max([end, *(span[1] for span in touching)]),
        )
        self._spans = sorted([*apart, joined])

    def gaps(self, size: int) -> Iterator[Span]:
        """What is missing of `size` bytes, in order."""
        position = 0
        for first, end in self._spans:
            if first >= size:
                break
            if position < first:
                yield position, first
            position = end
        if position < size:
            yield position, size

    def within(self, size: int) -> Self:
        """The part of it that lies in the first `size` bytes."""
        return type(self)((first, min(end, size)) for first, end in self._spans if first < size)

    def copy(self) -> Self:
        """The same bytes, to be changed apart."""
        return type(self)(self._spans)
