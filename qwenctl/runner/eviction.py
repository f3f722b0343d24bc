"""Who has to go when a model comes: planned first, with them gone; they leave only for a plan that holds.

Where every place is taken by a model that works, the newcomer waits for the first that idles. If after a
while none does, because each gets new requests all the time, the one loaded longest ago is drained: it
finishes what it has, its new requests wait for a place of their own. So none keeps the others out for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from qwenctl.errors import Conflict, LoadFailed, MemoryShort
from qwenctl.model.memory.plan import RANK
from qwenctl.runner.models import FoundModel, LoadDecision, LoadPlanner
from qwenctl.runner.slot import Slot
from qwenctl.units import render_bytes

Residents = Callable[[], Sequence[Slot]]
"""The slots of the pool at this moment, those that still wait for their load too."""


class Eviction:
    """Makes room, among `residents`, by the planner's word. `limit` models are in memory at the most.

    `unload` takes a slot off the pool at once; what it returns is over when its memory is free.
    """

    def __init__(
        self,
        planner: LoadPlanner,
        limit: int,
        patience_seconds: float,
        residents: Residents,
        unload: Callable[[Slot], Awaitable[None]],
    ) -> None:
        self._patience_seconds = patience_seconds
        self._freed = asyncio.Event()
        self._drained: Slot | None = None
        self._planner = planner
        self._limit = limit
        self._residents = residents
        self._unload = unload

    def freed(self) -> None:
        """A model idles now, or is gone: whoever waits for a place looks again."""
        self._freed.set()
        self._freed = asyncio.Event()

    async def place(self, slot: Slot, predecessor: Slot | None = None) -> LoadDecision:
        """How to load the model of `slot`, with its room made. One load at a time may ask.

        `predecessor` holds the same model with other options, and leaves. Others leave where the number of
        models is at its limit, and where without them it fits, or more of it comes onto GPUs: idle ones,
        the one used longest ago first. Waits while all of them work.

        Raises: MemoryShort, naming what is loaded; Conflict when the predecessor works; LoadFailed when
        nobody waits for it any more. Nobody has left then, unless nobody could tell what he held.
        """
        try:
            return await self._place(slot, predecessor)
        finally:
            if self._drained is not None:  # gone, or it was not for it to go after all
                self._drained.open_again()
                self._drained = None

    async def _place(self, slot: Slot, predecessor: Slot | None) -> LoadDecision:
        while True:
            await self._room(slot, predecessor)
            going = self._must_go(slot, predecessor)
            decided = await self._planned(slot, going)
            while await self._better_without(slot, going, decided):
                going.append(min(self._idle(slot, going), key=lambda item: item.last_used))
                decided = await self._planned(slot, going)
            if isinstance(decided, MemoryShort):
                unknown = [item for item in going if item.memory is None]
                if not unknown:
                    raise await self._refusal(slot, decided, going) from decided
                going = unknown[:1]  # only its leaving shows what it held
            elif not going:
                return decided
            if any(item.holders for item in going):
                continue  # it got work while we planned
            # Then once more, with what is free in truth.
            await asyncio.gather(*(self._unload(item) for item in going))

    async def _room(self, slot: Slot, predecessor: Slot | None) -> None:
        """Returns when enough models idle for the newcomer to have a place. Raises: LoadFailed."""
        while self._surplus(slot, predecessor) > len(self._idle(slot, ())):
            if not slot.holders or slot not in self._residents():
                raise LoadFailed(f"nobody waits for `{slot.found.name}` any more")
            try:
                await asyncio.wait_for(self._freed.wait(), self._patience_seconds)
            except TimeoutError:
                if self._drained is None:
                    self._drained = next(item for item in self._others(slot) if item.holders)
                    self._drained.drain()

    def _surplus(self, slot: Slot, predecessor: Slot | None) -> int:
        """How many models have to go beside the predecessor."""
        others = self._others(slot)
        return len(others) - (predecessor in others) + 1 - self._limit

    def _others(self, slot: Slot) -> list[Slot]:
        return [item for item in self._residents() if item is not slot and item.model]

    def _idle(self, slot: Slot, going: Sequence[Slot]) -> list[Slot]:
        return [item for item in self._others(slot) if not item.holders and item not in going]

    def _must_go(self, slot: Slot, predecessor: Slot | None) -> list[Slot]:
        going = list[Slot]()
        if predecessor in self._others(slot):
            if predecessor.holders:
                raise works_otherwise(predecessor.found)
            going.append(predecessor)
        idle = sorted(self._idle(slot, going), key=lambda item: (item is not self._drained, item.last_used))
        return going + idle[: max(0, self._surplus(slot, predecessor))]

    async def _better_without(
        self, slot: Slot, going: Sequence[Slot], decided: LoadDecision | MemoryShort
    ) -> bool:
        """Whether it helps that the idle ones leave. In need it may, where nobody knows what one holds."""
        idle = self._idle(slot, going)
        if isinstance(decided, MemoryShort):
            if not idle or any(item.memory is None for item in idle):
                return bool(idle)
        elif not any(item.memory and item.memory.devices for item in idle):
            return False  # what holds no GPU keeps nothing off one
        return _rank(await self._planned(slot, [*going, *idle])) > _rank(decided) and bool(
            self._idle(slot, going)
        )

    async def _planned(self, slot: Slot, going: Iterable[Slot]) -> LoadDecision | MemoryShort:
        """The planner's decision, or its refusal."""
        held = {item.found.name: item.memory for item in self._others(slot) if item.memory}
        leaving = [name for name in (item.found.name for item in going) if name in held]
        try:
            return await asyncio.to_thread(self._planner.decide, slot.found, slot.options, held, leaving)
        except MemoryShort as error:
            return error

    async def _refusal(self, slot: Slot, error: MemoryShort, going: Sequence[Slot]) -> MemoryShort:
        """The planner's words, what is loaded, and whose end would make room."""
        others = self._others(slot)
        if not others:
            return error
        told = f"loaded: {', '.join(_described(item, item in going) for item in others)}"
        hints = [*([error.hint] if error.hint else []), told]
        if "qwenctl stop" not in hints[0]:  # the planner has tried to do without each
            hints.append(await self._way_out(slot, others))
        return MemoryShort(error.message, hint="; ".join(hints))

    async def _way_out(self, slot: Slot, others: Sequence[Slot]) -> str:
        idle = [item for item in others if not item.holders]
        working = [item for item in others if item.holders]
        for item in working:
            if not isinstance(await self._planned(slot, [*idle, item]), MemoryShort):
                return f"it fits once `{item.found.name}` has left (`qwenctl stop {item.found.name}`)"
        if len(working) > 1 and not isinstance(await self._planned(slot, others), MemoryShort):
            return f"it fits once {_names(working)} have left"
        return "it would not fit without them either"


def works_otherwise(found: FoundModel) -> Conflict:
    """The refusal to load a model anew that works."""
    return Conflict(
        f"`{found.name}` is loaded with other options and works",
        hint=f"wait until it is done, or `qwenctl stop {found.name}`",
    )


def _names(slots: Iterable[Slot]) -> str:
    return ", ".join(f"`{slot.found.name}`" for slot in slots)


def _described(slot: Slot, leaves: bool) -> str:
    memory = render_bytes(slot.memory.total_bytes) if slot.memory else "of unknown size"
    state = "works" if slot.holders else "would leave" if leaves else "idle"
    return f"`{slot.found.name}` ({memory}, {state})"


def _rank(decided: LoadDecision | MemoryShort) -> int:
    """How good a decision is; a load that nobody can plan is as good as it gets."""
    if isinstance(decided, MemoryShort):
        return RANK["no"]
    verdict = decided.plan.verdict if decided.plan else "gpus"
    return min(RANK[verdict], RANK["gpus"])
