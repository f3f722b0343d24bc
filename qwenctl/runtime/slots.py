"""Slots: the sequences of the KV cache, what each holds, and where a new prompt sits best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, Protocol

# Below this share of the prompt a common beginning (often just the system prompt's first words) is not worth
# the other conversation in that slot. Source: llama-server's default `--slot-prompt-similarity`.
_WORTHWHILE_SHARE: Final = 0.1
# A copy moves a sequence's whole part of the KV cache, about what attention reads for a token or two at full
# context, and waiting for another prompt costs a few rounds: what is saved must be clearly more.
WORTH_COPYING_TOKENS: Final = 64
# A conversation, or a gain, below this is not worth a copy to RAM and back: it is computed again in a moment.
# A state of one token is some 10 to 200 KB, copied in microseconds.
WORTH_SAVING_TOKENS: Final = 256


class Occupant(Protocol):
    """Who sits in a slot: its tokens, and how many of them a prompt would find in the KV cache."""

    @property
    def tokens(self) -> list[int]:
        """All known tokens, prompt and sampled ones."""
        ...

    @property
    def intact(self) -> int:
        """How many of the first tokens are in the KV cache, each computed after exactly those before it."""
        ...

    @property
    def prefilling(self) -> bool:
        """Whether more of the prompt waits to be decoded."""
        ...


@dataclass(slots=True)
class Slot:
    """One sequence. While it is idle, `tokens` is what its part of the KV cache holds first, by position."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    occupant: Occupant | None = None
    released: int = 0  # the count of releases at the last one: small is long ago

    def holds(self, prompt: Sequence[int]) -> int:
        """How many of the first tokens of `prompt` are in its part of the KV cache."""
        if self.occupant is None:
            return common_prefix(self.tokens, prompt)
        return min(common_prefix(self.occupant.tokens, prompt), self.occupant.intact)

    def will_hold(self, prompt: Sequence[int]) -> int:
        """The same when the prompt that is being decoded in it is done; 0 where none is."""
        if self.occupant is None or not self.occupant.prefilling:
            return 0
        return common_prefix(self.occupant.tokens, prompt)


@dataclass(frozen=True, slots=True)
class Seat:
    """An idle slot for a prompt, and how many of the prompt's tokens it holds already.

    With a `source`, `shared` tokens are to be copied from there; they may not be decoded yet.
    """

    slot: Slot
    reuse: int
    source: Slot | None = None
    shared: int = 0


def choose_seat(slots: Sequence[Slot], prompt: Sequence[int], *, rewinds: bool = True) -> Seat | None:
    """The best seat for `prompt`; None when all slots are busy.

    A slot with the longest common beginning is taken as it is, unless that would cost a long other
    conversation; then, or when a busy slot has more, the beginning is copied into the slot released longest
    ago. Where a prompt that is being decoded will have much more of it than any slot has now, the seat waits
    for that. Without `rewinds` only a whole sequence can be gone on with, and nothing is copied.

    `reuse` leaves at least one token to decode, for only a decode gives the logits of what comes next.
    """
    idle = [slot for slot in slots if slot.occupant is None]
    if not idle:
        return None
    if not rewinds:
        return _whole_seat(idle, _oldest(idle), prompt)
    limit = len(prompt) - 1
    held = {slot.sequence: min(slot.holds(prompt), limit) for slot in slots}
    idle = _side_by_side(slots, idle, held)
    oldest = _oldest(idle)
    now = _seat_now(slots, idle, oldest, held, prompt)
    ahead, shared = max(((slot, min(slot.will_hold(prompt), limit)) for slot in slots), key=itemgetter(1))
    if shared >= max(now.reuse, now.shared) + WORTH_COPYING_TOKENS:
        return Seat(oldest, held[oldest.sequence], ahead, shared)
    return now


def _oldest(idle: Sequence[Slot]) -> Slot:
    return min(idle, key=lambda slot: (bool(slot.tokens), slot.released))


def _side_by_side(slots: Sequence[Slot], idle: list[Slot], held: Mapping[int, int]) -> list[Slot]:
    """Of the idle slots those beside a busy one, unless another is clearly worth more; else all.

    llama.cpp computes only sequences together whose numbers follow each other (see `batches.compose`): four
    with a gap between them decode at three quarters of the speed of four without (measured, 0.5B on a CPU).
    """
    busy = {slot.sequence for slot in slots if slot.occupant is not None}
    beside = [slot for slot in idle if {slot.sequence - 1, slot.sequence + 1} & busy]
    beside = [slot for slot in beside if len(slot.tokens) - held[slot.sequence] < WORTH_SAVING_TOKENS]
    most = max(held[slot.sequence] for slot in idle)
    if not beside or most >= max(held[slot.sequence] for slot in beside) + WORTH_COPYING_TOKENS:
        return idle
    return beside


def _seat_now(
    slots: Sequence[Slot], idle: Sequence[Slot], oldest: Slot, held: Mapping[int, int], prompt: Sequence[int]
) -> Seat:
    """The best seat by what every slot has `held` of the prompt until now."""
    best = max(idle, key=lambda slot: (held[slot.sequence], -slot.released))
    most = max(slots, key=lambda slot: held[slot.sequence])
    if held[most.sequence] < held[best.sequence] + WORTH_COPYING_TOKENS:
        most = best
    own, there = held[oldest.sequence], held[most.sequence]
    if most is best and not _costs_a_conversation(best, there, prompt):
        return Seat(best, there)
    if most is oldest or there < own + WORTH_COPYING_TOKENS:
        if most is best and oldest.tokens and there > own and _loses_little(best, there, prompt):
            return Seat(best, there)  # somebody loses a conversation anyway
        return Seat(oldest, own)
    return Seat(oldest, own, most, there)


def _whole_seat(idle: Sequence[Slot], oldest: Slot, prompt: Sequence[int]) -> Seat:
    whole = [slot for slot in idle if 0 < len(slot.tokens) < len(prompt)]
    whole = [slot for slot in whole if slot.tokens == prompt[: len(slot.tokens)]]
    best = max(whole, key=lambda slot: len(slot.tokens), default=None)
    return Seat(oldest, 0) if best is None else Seat(best, len(best.tokens))


def _costs_a_conversation(slot: Slot, reuse: int, prompt: Sequence[int]) -> bool:
    """Whether to go on in `slot` loses more than it gives."""
    rest = len(slot.tokens) - reuse
    if reuse < max(1, _WORTHWHILE_SHARE * len(prompt)):
        return True
    return rest > max(reuse, WORTH_COPYING_TOKENS)


def _loses_little(slot: Slot, reuse: int, prompt: Sequence[int]) -> bool:
    """Whether what `slot` would lose is computed again in a moment."""
    worth_it = reuse >= max(1, _WORTHWHILE_SHARE * len(prompt))
    return worth_it and len(slot.tokens) - reuse < WORTH_SAVING_TOKENS


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
