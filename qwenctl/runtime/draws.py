"""Sampling after a decode: for every sequence that is due, side by side where the vocabulary is large."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from time import perf_counter
from typing import Final

from qwenctl.errors import QwenctlError
from qwenctl.runtime.batches import Sampler
from qwenctl.runtime.events import TokenLogprob

# What threads must save: to wake them takes a twentieth, but where the CPU computes too, its threads wait for
# the next graph in a loop, and hardly leave a core.
_WORTH_SECONDS: Final = 0.001

# Plain tuples: they are made for every token.
Due = tuple[Sampler, int, Sequence[int], int | None]
"""A sequence to sample: after this row of the last decode, and after the following rows as long as what comes
is the draft whose tokens these rows hold. The last is `top` as in `Sampler.logprob`; None asks for none."""

Drawn = tuple[list[tuple[int, TokenLogprob | None]], QwenctlError | None]
"""The sampled tokens: at least one, unless an error ended it before."""


class Draws:
    """Draws on up to `threads` threads where that saves a millisecond; the results do not depend on how many.

    `close` ends them.
    """

    def __init__(self, threads: int, ends: Callable[[int], bool]) -> None:
        self._ends = ends
        self._one_seconds = inf  # what the last one took
        self._pool: Final = ThreadPoolExecutor(threads, "sampling") if threads > 1 else None

    def draw(self, due: Sequence[Due]) -> list[Drawn]:
        """What came, in the same order."""
        if self._pool is None or len(due) < 2:
            return [self._one(*one) for one in due]
        start = perf_counter()
        if self._one_seconds * (len(due) - 1) < _WORTH_SECONDS:
            drawn = [self._one(*one) for one in due]
            self._one_seconds = (perf_counter() - start) / len(due)
            return drawn
        # The interpreter lock is free while llama.cpp samples, so that this thread is one of them.
        others = [self._pool.submit(self._one, *one) for one in due[1:]]
        first = self._one(*due[0])
        self._one_seconds = perf_counter() - start
        return [first, *(other.result() for other in others)]

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _one(self, sampler: Sampler, row: int, draft: Sequence[int], top: int | None) -> Drawn:
        drawn: list[tuple[int, TokenLogprob | None]] = []
        try:
            while True:
                token = sampler.sample(row)
                drawn.append((token, None if top is None else sampler.logprob(row, token, top)))
                place = len(drawn) - 1
                if place == len(draft) or token != draft[place] or self._ends(token):
                    return drawn, None
                row += 1
        except QwenctlError as error:  # a grammar without a way on: the others have theirs
            return drawn, error
