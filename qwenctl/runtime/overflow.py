"""What stays of a text that is longer than the context: its beginning and its newest part."""

from typing import Final

_SHARE: Final = 4  # of the context, for the beginning that stays and for the answer


def longest_beginning(context_length: int, wanted: int | None) -> int:
    """How many of the first tokens stay: what is wanted, but a quarter of the context at most."""
    quarter = context_length // _SHARE
    return quarter if wanted is None else min(wanted, quarter)


def fit_prompt(prompt: list[int], context_length: int, max_tokens: int | None, beginning: int) -> list[int]:
    """`prompt`, or its first `beginning` tokens and its newest ones where it leaves no room for an answer.

    Then the answer gets room for `max_tokens`, but a quarter of the context at most. The context holds two
    tokens at the least.
    """
    if len(prompt) < context_length:
        return list(prompt)
    room = max(1, context_length // _SHARE)
    size = context_length - (room if max_tokens is None else min(room, max_tokens))
    return prompt[:beginning] + prompt[len(prompt) - (size - beginning) :]


def dropped_tokens(decoded: int, beginning: int) -> int:
    """How many tokens behind the beginning a full context drops: the older half of them."""
    return max(1, (decoded - beginning) // 2)
