"""Which models are loaded, who works on them, and who has to go.

A model is loaded by its first request and shared by the next ones. While requests hold it, nothing but a
`stop` takes it away; afterwards it stays for its keep-alive, or until another model needs its place.

Everything here runs on one event loop. Between two `await`s the table of slots is consistent, so the
decisions (`_slot_for`) are plain functions and only their effects (`_open`, `_close`) wait.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final

import msgspec

from qwenctl.errors import Conflict, LoadFailed, MemoryShort, NotFound, WorkerDied
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.plan import RANK
from qwenctl.model.memory.words import needs_text
from qwenctl.runner.messages import LoadedStatus, LoadOptions
from qwenctl.runner.models import FoundModel, LoadDecision, LoadPlanner, ModelSource, Unplanned
from qwenctl.runner.supervisor import Worker
from qwenctl.runtime.engine import LoadedModel, Request
from qwenctl.runtime.events import Event

StartWorker = Callable[[], Awaitable[Worker]]

_STATS_SECONDS: Final = 1.0  # a status must not hang on a worker that does
_log: Final = logging.getLogger("qwenctl.runner")


class _Slot:
    """A place for one model: the load that fills it, the worker, and who holds it."""

    def __init__(self, found: FoundModel, options: LoadOptions, keep_alive_seconds: float) -> None:
        self.found = found
        self.options = options
        self.keep_alive_seconds = keep_alive_seconds
        self.holders = 0
        self.last_used = 0.0
        self.worker: Worker | None = None
        self.expiry: asyncio.TimerHandle | None = None
        self.decision: LoadDecision | None = None
        self.loading: asyncio.Task[LoadedModel]

    @property
    def model(self) -> LoadedModel | None:
        """What was loaded, once it is."""
        task = self.loading
        failed = not task.done() or task.cancelled() or task.exception()
        return None if failed else task.result()

    @property
    def memory(self) -> Estimate | None:
        """What the loaded model takes: by llama.cpp's account, or by the plan where it gives none."""
        model, plan = self.model, self.decision.plan if self.decision else None
        if model is None:
            return None
        return model.memory or (plan.estimate if plan else None)

    def suits(self, options: LoadOptions) -> bool:
        """Whether the wishes are met by how the model was, or is being, loaded."""
        mine = self.options.given()
        if self.decision is not None:
            mine = {**msgspec.structs.asdict(self.decision.options), **mine}
        return all(mine.get(name) == value for name, value in options.given().items())

    def disarm(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None


class Pool:
    """The loaded models of a runner: `limit` at the most; the idle one used longest ago makes room."""

    def __init__(
        self,
        source: ModelSource,
        start_worker: StartWorker,
        *,
        keep_alive_seconds: float,
        limit: int,
        planner: LoadPlanner | None = None,
    ) -> None:
        self._source = source
        self._planner: LoadPlanner = planner or Unplanned()
        self._start_worker = start_worker
        self._keep_alive_seconds = keep_alive_seconds
        self._limit = limit
        self._slots: dict[str, _Slot] = {}
        self._loads = asyncio.Lock()  # one at a time: each plan must see what the load before it took
        self._endings: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """How many models are loaded or being loaded."""
        return len(self._slots)

    @property
    def working(self) -> int:
        """How many requests hold a model, or wait for its load."""
        return sum(slot.holders for slot in self._slots.values())

    async def models(self) -> Sequence[FoundModel]:
        """All models that can be asked for, loaded or not."""
        return await asyncio.to_thread(self._source.models)

    async def find(self, name: str) -> FoundModel:
        """The model of this name. Raises: InvalidReference, ReferenceUnknown."""
        return await asyncio.to_thread(self._source.find, name)

    async def generate(
        self, name: str, request: Request, *, keep_alive_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """The events of `request`; see `api.host.ModelHost`.

        A model that runs out of memory in an answer leaves after its requests; the next one loads it again.
        """
        async with self._lease(name, LoadOptions(), keep_alive_seconds) as slot:
            try:
                async with aclosing(_worker_of(slot).generate(request)) as events:
                    async for event in events:
                        yield event
            except MemoryShort as error:
                slot.keep_alive_seconds = 0  # the next request plans anew, with what is free then
                raise _with_plan(error, slot.decision) from error

    async def load(
        self, name: str, options: LoadOptions, *, keep_alive_seconds: float | None = None
    ) -> LoadedStatus:
        """The status of the model, loaded. One that idles with other options is loaded again with these.

        Raises: what `find` raises; Conflict when it works with other options, or no place is free;
        LoadFailed and DoesNotFit from the load.
        """
        async with self._lease(name, options, keep_alive_seconds) as slot:
            status = await self._status(slot)
        return msgspec.structs.replace(status, requests=slot.holders, expires_seconds=_remaining(slot))

    async def loaded(self) -> list[LoadedStatus]:
        """The models in the pool: those at work first, then the one used last."""
        slots = sorted(
            self._slots.values(), key=lambda slot: (slot.holders > 0, slot.last_used), reverse=True
        )
        return list(await asyncio.gather(*(self._status(slot) for slot in slots)))

    async def stop(self, name: str | None) -> list[str]:
        """Unloads a model (None: all) even if it works, and waits for its end; the names of what was loaded.

        Raises: InvalidReference, ReferenceUnknown.
        """
        slots = list(self._slots.values()) if name is None else await self._slots_of(name)
        await asyncio.gather(*(self._detach(slot) for slot in slots))
        return [slot.found.name for slot in slots]

    async def close(self) -> None:
        """Unloads everything and waits until all workers have ended."""
        await self.stop(None)
        await asyncio.gather(*self._endings)

    @asynccontextmanager
    async def _lease(
        self, name: str, options: LoadOptions, keep_alive_seconds: float | None
    ) -> AsyncIterator[_Slot]:
        found = await self.find(name)
        slot = self._slot_for(found, options)
        if keep_alive_seconds is not None:
            slot.keep_alive_seconds = keep_alive_seconds
        slot.holders += 1
        slot.disarm()
        try:
            await asyncio.shield(slot.loading)  # others may wait for the same load
            yield slot
        finally:
            slot.holders -= 1
            self._rest(slot)

    def _slot_for(self, found: FoundModel, options: LoadOptions) -> _Slot:
        slot, leaving = self._slots.get(found.id), []
        if slot is not None and slot.suits(options):
            return slot
        if slot is not None:
            if slot.holders:
                raise Conflict(
                    f"`{found.name}` is loaded with other options and works",
                    hint=f"wait until it is done, or `qwenctl stop {found.name}`",
                )
            leaving.append(self._detach(slot))
        elif len(self._slots) >= self._limit:
            leaving.append(self._detach(self._least_needed()))
        slot = _Slot(found, options, self._keep_alive_seconds)
        slot.loading = asyncio.create_task(self._open(slot, leaving))
        slot.loading.add_done_callback(_note_failure)
        self._slots[found.id] = slot
        return slot

    def _least_needed(self) -> _Slot:
        idle = [slot for slot in self._slots.values() if not slot.holders]
        if not idle:
            names = ", ".join(f"`{slot.found.name}`" for slot in self._slots.values())
            raise Conflict(
                f"{len(self._slots)} models are loaded and all of them work: {names}",
                hint="try again later, or stop one with `qwenctl stop`",
            )
        return min(idle, key=lambda slot: slot.last_used)

    async def _open(self, slot: _Slot, leaving: Sequence[Awaitable[None]]) -> LoadedModel:
        found = slot.found
        try:
            await asyncio.gather(*leaving)  # their memory must be free before this one takes it
            async with self._loads:
                decision = slot.decision = await self._decide(slot)
                slot.worker = await self._start_worker()
                slot.worker.ended.add_done_callback(lambda _: self._forget(slot))
                if self._slots.get(found.id) is not slot:
                    raise LoadFailed(f"`{found.name}` was stopped before it was loaded")
                model = await _load(slot.worker, found.name, decision)
        except BaseException:
            self._detach(slot)
            raise
        _log.info("`%s` is loaded in process %d", found.name, slot.worker.pid)
        return model

    async def _decide(self, slot: _Slot) -> LoadDecision:
        """How to load it. Models that idle leave, the one used longest ago first, where without them it fits,
        or more of it comes onto GPUs. None leaves in vain.

        Raises: MemoryShort, naming the models that work and hold memory too.
        """
        while True:
            others = [item for item in self._slots.values() if item is not slot and item.model]
            decided = await self._planned(slot, others)
            idle = [item for item in others if not item.holders]
            if not await self._better_without(idle, slot, others, decided):
                if isinstance(decided, MemoryShort):
                    raise _with_workers(decided, others) from decided
                return decided
            idle = [item for item in idle if not item.holders]  # some may have got work meanwhile
            if idle:
                await self._detach(min(idle, key=lambda item: item.last_used))

    async def _better_without(
        self, idle: Sequence[_Slot], slot: _Slot, others: Sequence[_Slot], decided: LoadDecision | MemoryShort
    ) -> bool:
        """Whether it helps that these leave. Of one that nobody knows the memory of, it may, in need."""
        if isinstance(decided, MemoryShort):
            if not idle or any(item.memory is None for item in idle):
                return bool(idle)
        elif not any(item.memory and item.memory.devices for item in idle):
            return False  # what holds no GPU keeps nothing off one
        known = [item for item in idle if item.memory]
        return _rank(await self._planned(slot, others, [item.found.name for item in known])) > _rank(decided)

    async def _planned(
        self, slot: _Slot, others: Sequence[_Slot], leaving: Collection[str] = ()
    ) -> LoadDecision | MemoryShort:
        """The planner's decision, or its refusal."""
        held = {item.found.name: item.memory for item in others if item.memory}
        try:
            return await asyncio.to_thread(self._planner.decide, slot.found, slot.options, held, leaving)
        except MemoryShort as error:
            return error

    def _rest(self, slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        slot.last_used = loop.time()
        if slot.holders or self._slots.get(slot.found.id) is not slot:
            return
        if slot.keep_alive_seconds <= 0:
            self._detach(slot)
        elif slot.keep_alive_seconds != float("inf"):
            slot.expiry = loop.call_later(slot.keep_alive_seconds, self._detach, slot)

    def _detach(self, slot: _Slot) -> asyncio.Task[None]:
        """Takes the slot off the table now; the task is done when its worker has ended."""
        self._forget(slot)
        ending = asyncio.create_task(self._close(slot))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    def _forget(self, slot: _Slot) -> None:
        slot.disarm()
        if self._slots.get(slot.found.id) is slot:
            del self._slots[slot.found.id]

    async def _close(self, slot: _Slot) -> None:
        if slot.worker is None:
            await asyncio.wait({slot.loading})  # it sees that its slot is off the table
        if slot.worker is not None:
            await slot.worker.close()
            _log.info("`%s` is unloaded", slot.found.name)

    async def _slots_of(self, name: str) -> list[_Slot]:
        try:
            found = await self.find(name)
        except NotFound:
            slots = self._slots_called({name})  # removed from the store since it was loaded
            if not slots:
                raise
            return slots
        return self._slots_called({found.id, found.name})  # by name too: its tag may have moved on

    def _slots_called(self, words: set[str]) -> list[_Slot]:
        return [
            slot for slot in self._slots.values() if not words.isdisjoint({slot.found.id, slot.found.name})
        ]

    async def _status(self, slot: _Slot) -> LoadedStatus:
        model = slot.model
        return LoadedStatus(
            name=slot.found.name,
            id=slot.found.id,
            state="ready" if model else "loading",
            requests=slot.holders,
            expires_seconds=_remaining(slot),
            pid=slot.worker.pid if slot.worker else None,
            resident_bytes=await _resident_bytes(_worker_of(slot)) if model else None,
            model=model,
            plan=slot.decision.plan if slot.decision else None,
        )


def _note_failure(loading: asyncio.Task[LoadedModel]) -> None:
    """Logs it, for those who waited may all have left."""
    if not loading.cancelled() and (error := loading.exception()):
        _log.warning("a model was not loaded: %s", error)


def _worker_of(slot: _Slot) -> Worker:
    assert slot.worker is not None, "a lease waits for the load"
    return slot.worker


def _rank(decided: LoadDecision | MemoryShort) -> int:
    """How good a decision is; a load that nobody can plan is as good as it gets."""
    if isinstance(decided, MemoryShort):
        return RANK["no"]
    verdict = decided.plan.verdict if decided.plan else "gpus"
    return min(RANK[verdict], RANK["gpus"])


async def _load(worker: Worker, name: str, decision: LoadDecision) -> LoadedModel:
    try:
        return await worker.load(name, decision.options)
    except MemoryShort as error:
        raise _with_plan(error, decision) from error


def _with_plan(error: MemoryShort, decision: LoadDecision | None) -> MemoryShort:
    """llama.cpp ran out of memory all the same: its words, and what was planned."""
    if decision is None or decision.plan is None:
        return error
    return MemoryShort(f"{error.message}; planned were {needs_text(decision.plan)}", hint=error.hint)


def _with_workers(error: MemoryShort, others: Sequence[_Slot]) -> MemoryShort:
    """The refusal, with the models that would have to be stopped."""
    names = ", ".join(f"`{slot.found.name}`" for slot in others if slot.holders)
    if not names:
        return error
    hints = [*([error.hint] if error.hint else []), f"at work and in memory: {names}"]
    return MemoryShort(error.message, hint="; ".join(hints))


def _remaining(slot: _Slot) -> float | None:
    if slot.expiry is None:
        return None
    return max(0.0, slot.expiry.when() - asyncio.get_running_loop().time())


async def _resident_bytes(worker: Worker) -> int | None:
    with suppress(TimeoutError, WorkerDied):
        return (await asyncio.wait_for(worker.stats(), _STATS_SECONDS)).resident_bytes
    return None
