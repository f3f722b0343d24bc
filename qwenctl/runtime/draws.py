"""Sampling after a decode: the next token of a sequence, and those behind it as far as guesses were right."""

from collections.abc import Callable, Sequence

from qwenctl.errors import QwenctlError
from qwenctl.runtime.batches import Sampler
from qwenctl.runtime.events import TokenLogprob

# Plain tuples: they are made for every token.
Drawn = tuple[list[tuple[int, TokenLogprob | None]], QwenctlError | None]
"""The sampled tokens: at least one, unless an error ended it before."""


def draw(
    sampler: Sampler, row: int, draft: Sequence[int], top: int | None, ends: Callable[[int], bool]
) -> Drawn:
    """What came after this row of the last decode, and after the following rows as long as it is the draft
    whose tokens these rows hold. `top` is as in `Sampler.logprob`; None asks for none.
    """
    drawn: list[tuple[int, TokenLogprob | None]] = []
    try:
        while True:
            token = sampler.sample(row)
            drawn.append((token, None if top is None else sampler.logprob(row, token, top)))
            place = len(drawn) - 1
            if place == len(draft) or token != draft[place] or ends(token):
                return drawn, None
            row += 1
    except QwenctlError as error:  # a grammar without a way on: the others have theirs
        return drawn, error
