"""Who sits where: gives generations their sequences, with as much of the prompt as is computed already."""

from dataclasses import dataclass
from typing import Final

from qwenctl.runtime.batches import Decoder
from qwenctl.runtime.generation import Generation
from qwenctl.runtime.prompt_cache import PromptCache
from qwenctl.runtime.slots import WORTH_COPYING_TOKENS, WORTH_SAVING_TOKENS, Seat, Slot, choose_seat


@dataclass(frozen=True, slots=True)
class _Following:
    """A generation that waits in its seat until another has decoded the first `shared` tokens of both."""

    slot: Slot
    generation: Generation
    leader: Generation
    shared: int


class Seating:
    """The slots of a decoder; used on the decode thread only.

    A prompt whose beginning is being computed in another slot waits for it and copies it. It keeps its seat
    meanwhile, so nobody overtakes it, and goes on alone as soon as the other is cancelled or fails.
    """

    def __init__(self, decoder: Decoder, slots: int, cache: PromptCache | None = None) -> None:
        self._decoder = decoder
        self._cache = cache
        self._slots: Final = [Slot(sequence) for sequence in range(slots)]
        self._following: list[_Following] = []
        self._releases = 0

    def seat(self, generation: Generation) -> int:
        """Sets the generation's sequence; a slot must be idle. Returns the tokens it has already."""
        prompt = generation.tokens
        seat = choose_seat(self._slots, prompt, rewinds=self._decoder.rewinds)
        assert seat is not None, "a generation is seated only when a slot is idle"
        slot = seat.slot
        reuse = self._restore(seat, prompt)
        if reuse is None:
            reuse = self._prepare(seat)
        generation.begin(slot.sequence, reuse)
        slot.occupant, slot.tokens = generation, []
        source = seat.source.occupant if seat.source is not None else None
        if seat.shared > reuse and isinstance(source, Generation):
            self._following.append(_Following(slot, generation, source, seat.shared))
        return reuse

    def settle(self) -> int:
        """Ends waiting for a beginning that is there now, or will not come. Returns the tokens saved."""
        saved = 0
        for following in [*self._following]:
            if following.generation.over:
                self._following.remove(following)
            elif following.leader.over or following.leader.intact >= following.shared:
                self._following.remove(following)
                saved += self._take_over(following)
        return saved

    def ready(self, running: list[Generation]) -> list[Generation]:
        """Those of `running` that wait for nobody."""
        if not self._following:
            return running
        waiting = {following.generation for following in self._following}
        return [generation for generation in running if generation not in waiting]

    def release(self, generation: Generation) -> None:
        """Frees the slot; what it holds stays for a prompt with the same beginning."""
        slot = self._slots[generation.sequence]
        slot.tokens = generation.tokens[: generation.intact]
        slot.occupant = None
        self._releases += 1
        slot.released = self._releases

    def clear(self) -> None:
        """Trusts nothing in the KV cache any more; all slots must be idle."""
        self._following.clear()
        for slot in self._slots:
            self._decoder.keep(slot.sequence, 0)
            slot.tokens = []

    def _prepare(self, seat: Seat) -> int:
        """Makes the slot hold what it can of the prompt now; returns how much that is."""
        slot = seat.slot
        self._save(slot, seat.reuse)
        if seat.source is not None and seat.source.occupant is None:
            return self._copy(seat.source, slot, seat.shared)
        return self._trim(slot.sequence, seat.reuse)

    def _take_over(self, following: _Following) -> int:
        """Copies the longest beginning that any slot has now, if it is still worth it."""
        generation, slot = following.generation, following.slot
        limit = len(generation.tokens) - 1
        others = [other for other in self._slots if other is not slot]
        source = max(others, key=lambda other: other.holds(generation.tokens))
        shared = min(source.holds(generation.tokens), limit)
        before = generation.decoded
        if shared < before + WORTH_COPYING_TOKENS:
            return 0
        generation.decoded = generation.cached = self._copy(source, slot, shared)
        return generation.cached - before

    def _copy(self, source: Slot, target: Slot, shared: int) -> int:
        self._decoder.copy(source.sequence, target.sequence)
        return self._trim(target.sequence, shared)

    def _trim(self, sequence: int, length: int) -> int:
        return length if self._decoder.keep(sequence, length) else 0

    def _restore(self, seat: Seat, prompt: list[int]) -> int | None:
        """Puts a kept conversation into the slot where it has much more of the prompt than any slot."""
        found = None
        if self._cache is not None:
            found = self._cache.find(prompt, rewinds=self._decoder.rewinds)
        if self._cache is None or found is None:
            return None
        conversation, shared = found
        if shared < max(seat.reuse, seat.shared) + WORTH_SAVING_TOKENS:
            return None
        self._cache.use(conversation, shared)  # first, or saving might push it out
        self._save(seat.slot, 0)
        if not self._decoder.restore(seat.slot.sequence, conversation.state):
            return self._trim(seat.slot.sequence, 0)
        return self._trim(seat.slot.sequence, shared)

    def _save(self, slot: Slot, reuse: int) -> None:
        """Keeps what the slot holds, before all but `reuse` tokens are lost, where nobody else has it."""
        tokens = slot.tokens
        if self._cache is None or len(tokens) - reuse < WORTH_SAVING_TOKENS or self._cache.holds(tokens):
            return
        others = (other for other in self._slots if other is not slot)
        if any(other.holds(tokens) == len(tokens) for other in others):
            return
        if self._cache.make_room(self._decoder.state_bytes(slot.sequence)):
            state = self._decoder.save(slot.sequence)
            if state is not None:
                self._cache.add(tokens, state)
