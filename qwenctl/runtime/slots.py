"""Slots: the sequences of the KV cache, what each still holds, and which one a new prompt takes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

# Below this share of the prompt a common beginning (often just the system prompt's first words) is not worth
# the other conversation in that slot. Source: llama-server's default `--slot-prompt-similarity`.
_WORTHWHILE_SHARE: Final = 0.1


@dataclass(slots=True)
class Slot:
    """One sequence. `tokens` is exactly what its part of the KV cache holds, by position."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    released: int = 0  # the count of releases at the last one: small is long ago


@dataclass(frozen=True, slots=True)
class Choice:
    """A slot for a prompt, and how many of the prompt's tokens it holds already."""

    slot: Slot
    reuse: int


def choose_slot(slots: Iterable[Slot], prompt: Sequence[int]) -> Choice | None:
    """The idle slot for `prompt`: the one with the longest common beginning that is worth it, else the
    one released longest ago. None when all are busy.

    `reuse` leaves at least one token to decode, for only a decode gives the logits of what comes next.
    """
    idle = [slot for slot in slots if not slot.busy]
    if not idle:
        return None
    shared = {slot.sequence: common_prefix(slot.tokens, prompt) for slot in idle}
    best = max(idle, key=lambda slot: (shared[slot.sequence], -slot.released))
    if shared[best.sequence] < max(1, _WORTHWHILE_SHARE * len(prompt)):
        best = min(idle, key=lambda slot: slot.released)
    return Choice(best, min(shared[best.sequence], len(prompt) - 1))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens at the beginning are equal; compares halves, so that C does the work."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
