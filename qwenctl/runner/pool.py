"""Which models are loaded, who works on them, and who has to go.

A model is loaded by its first request and shared by the next ones. While requests hold it, nothing but a
`stop` takes it away; afterwards it stays for its keep-alive, or until another model needs its place.

Everything here runs on one event loop. Between two `await`s the table of slots is consistent, so the
decisions (`_slot_for`) are plain functions and only their effects (`_open`, `_close`) wait. Who makes room
for whom is `eviction`'s.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import msgspec

from qwenctl.errors import LoadFailed, MemoryShort, NotFound, Overloaded, TimedOut
from qwenctl.model.memory.words import needs_text
from qwenctl.runner.eviction import Eviction, works_otherwise
from qwenctl.runner.ledger import Entry, Ledger
from qwenctl.runner.messages import LoadedStatus, LoadOptions
from qwenctl.runner.models import FoundModel, LoadDecision, LoadPlanner, ModelSource, Unplanned
from qwenctl.runner.slot import Slot
from qwenctl.runner.supervisor import Worker
from qwenctl.runtime.engine import (
    ChatRequest,
    Embeddings,
    EmbedRequest,
    LoadedModel,
    Request,
    RerankRequest,
    Scores,
)
from qwenctl.runtime.events import Event
from qwenctl.units import parse_duration

StartWorker = Callable[[], Awaitable[Worker]]

_log: Final = logging.getLogger("qwenctl.runner")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a pool takes on: models in memory, requests that wait for one model, seconds for a request.

    `patience_seconds` is how long a model waits for a place before another one is drained for it: about as
    long as a load takes.
    """

    models: int = 3
    waiting: int = 512
    request_seconds: float = float("inf")
    patience_seconds: float = 5.0


class Pool:
    """The loaded models of a runner, within `limits`. Every request is in the `ledger`."""

    def __init__(
        self,
        source: ModelSource,
        start_worker: StartWorker,
        *,
        keep_alive_seconds: float,
        limits: Limits = Limits(),
        planner: LoadPlanner | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._source = source
        self._start_worker = start_worker
        self._keep_alive_seconds = keep_alive_seconds
        self._limits = limits
        self._slots: dict[str, Slot] = {}
        self._coming: dict[str, Slot] = {}  # those that will replace a slot of the same model, if it can be
        self._eviction = Eviction(
            planner or Unplanned(), limits.models, limits.patience_seconds, self._residents, self._detach
        )
        self._loads = asyncio.Lock()  # one at a time: each plan must see what the load before it took
        self._endings: set[asyncio.Task[None]] = set()
        self.ledger = ledger or Ledger()

    def __len__(self) -> int:
        """How many models are loaded or being loaded."""
        return len(self._slots.keys() | self._coming.keys())

    @property
    def working(self) -> int:
        """How many requests hold a model, or wait for its load."""
        return sum(slot.holders for slot in self._residents())

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
        kind = "chat" if isinstance(request, ChatRequest) else "completion"
        call = _Call(kind, name, request, self._deadline(), keep_alive_seconds)
        async with self._at_work(call) as (slot, entry):
            try:
                async with aclosing(slot.worker.generate(request)) as events:
                    async for event in events if call.deadline is None else _until(events, call.deadline):
                        entry.hear(event)
                        yield event
            except MemoryShort as error:
                slot.keep_alive_seconds = 0  # the next request plans anew, with what is free then
                raise _with_plan(error, slot.decision) from error

    async def count_tokens(self, name: str, request: Request) -> int:
        """See `api.host.ModelHost`."""
        call = _Call("count", name, request, self._deadline())
        async with self._at_work(call) as (slot, entry), _within(call.deadline):
            tokens = await slot.worker.count_tokens(request)
            entry.prompt_tokens += tokens
            return tokens

    async def embed(
        self, name: str, request: EmbedRequest, *, keep_alive_seconds: float | None = None
    ) -> Embeddings:
        """See `api.host.ModelHost`."""
        call = _Call("embed", name, request, self._deadline(), keep_alive_seconds)
        async with self._at_work(call) as (slot, entry), _within(call.deadline):
            embeddings = await slot.worker.embed(request)
            entry.prompt_tokens += embeddings.prompt_tokens
            return embeddings

    async def rerank(
        self, name: str, request: RerankRequest, *, keep_alive_seconds: float | None = None
    ) -> Scores:
        """See `api.host.ModelHost`."""
        call = _Call("rerank", name, request, self._deadline(), keep_alive_seconds)
        async with self._at_work(call) as (slot, entry), _within(call.deadline):
            scores = await slot.worker.rerank(request)
            entry.prompt_tokens += scores.prompt_tokens
            return scores

    async def load(
        self, name: str, options: LoadOptions, *, keep_alive_seconds: float | None = None
    ) -> LoadedStatus:
        """The status of the model, loaded. One that idles with other options is loaded again with these, if
        they can be met; else it stays as it is.

        Raises: what `find` raises; Conflict when it works with other options;
        LoadFailed and DoesNotFit from the load.
        """
        async with self._lease(await self.find(name), options, keep_alive_seconds) as slot:
            status = await slot.status()
        return msgspec.structs.replace(status, requests=slot.holders, expires_seconds=slot.remaining_seconds)

    async def loaded(self) -> list[LoadedStatus]:
        """The models in the pool: those at work first, then the one used last."""
        slots = sorted(self._residents(), key=lambda slot: (slot.holders > 0, slot.last_used), reverse=True)
        return list(await asyncio.gather(*(slot.status() for slot in slots)))

    async def stop(self, name: str | None) -> list[str]:
        """Unloads a model (None: all) even if it works, and waits for its end; the names of what was loaded.

        Raises: InvalidReference, ReferenceUnknown.
        """
        slots = self._residents() if name is None else await self._slots_of(name)
        await asyncio.gather(*(self._detach(slot) for slot in slots))
        return list(dict.fromkeys(slot.found.name for slot in slots))

    async def close(self) -> None:
        """Unloads everything and waits until all workers have ended."""
        await self.stop(None)
        await asyncio.gather(*self._endings)

    def _deadline(self) -> float | None:
        """Until when a request that comes now may take, on the loop's clock."""
        seconds = self._limits.request_seconds
        return None if seconds == float("inf") else asyncio.get_running_loop().time() + seconds

    @asynccontextmanager
    async def _at_work(self, call: "_Call") -> AsyncIterator[tuple[Slot, Entry]]:
        """A request on its model, in the ledger from its beginning to its end."""
        with self.ledger.recording(call.kind, call.name) as entry:
            found = await self.find(call.name)
            self.ledger.meet(entry, found.name, call.request, bodies=found.configured.record_bodies)
            async with self._lease(found, LoadOptions(), call.keep_alive_seconds, call.deadline) as slot:
                yield slot, entry

    @asynccontextmanager
    async def _lease(
        self,
        found: FoundModel,
        options: LoadOptions,
        keep_alive_seconds: float | None,
        deadline: float | None = None,
    ) -> AsyncIterator[Slot]:
        while (draining := self._slots.get(found.id)) is not None and draining.draining:
            self._check_queue(found, draining.outside)
            async with _within(deadline):
                await draining.wait_until_open()
        slot = self._slot_for(found, options)
        self._check_queue(found, slot.holders - (slot.model.slots if slot.model else 0))
        if keep_alive_seconds is not None:
            slot.keep_alive_seconds = keep_alive_seconds
        slot.holders += 1
        slot.disarm()
        try:
            async with _within(deadline):
                await asyncio.shield(slot.loading)  # others may wait for the same load
            yield slot
        finally:
            slot.holders -= 1
            self._rest(slot)

    def _check_queue(self, found: FoundModel, waiting: int) -> None:
        if waiting >= self._limits.waiting:
            raise Overloaded(
                f"{waiting} requests wait for `{found.name}`, and no more may",
                hint="try again in a moment",
            )

    def _slot_for(self, found: FoundModel, options: LoadOptions) -> Slot:
        current, coming = self._slots.get(found.id), self._coming.get(found.id)
        for slot in (current, coming):
            if slot is not None and slot.suits(options):
                return slot
        if coming is not None or (current is not None and current.holders):
            raise works_otherwise(found)
        keep_alive = found.configured.keep_alive
        slot = Slot(
            found,
            options.over(found.configured.options),
            self._keep_alive_seconds if keep_alive is None else parse_duration(keep_alive),
        )
        slot.loading = asyncio.create_task(self._open(slot, current))
        slot.loading.add_done_callback(_note_failure)
        (self._slots if current is None else self._coming)[found.id] = slot
        return slot

    async def _open(self, slot: Slot, predecessor: Slot | None) -> LoadedModel:
        found = slot.found
        try:
            async with self._loads:
                self._check_wanted(slot)
                decision = slot.decision = await self._eviction.place(slot, predecessor)
                worker = slot.started = await self._start_worker()
                worker.ended.add_done_callback(lambda _: self._forget(slot))
                self._check_wanted(slot)
                if self._coming.get(found.id) is slot:
                    self._slots[found.id] = self._coming.pop(found.id)
                model = await _load(worker, found.name, decision)
        except BaseException:
            self._detach(slot)
            raise
        _log.info("`%s` is loaded in process %d", found.name, worker.pid)
        return model

    def _check_wanted(self, slot: Slot) -> None:
        if not self._holds(slot):
            raise LoadFailed(f"`{slot.found.name}` was stopped before it was loaded")

    def _rest(self, slot: Slot) -> None:
        loop = asyncio.get_running_loop()
        slot.last_used = loop.time()
        if not slot.holders:
            self._eviction.freed()
        if slot.holders or not self._holds(slot):
            return
        if slot.keep_alive_seconds <= 0:
            self._detach(slot)
        elif slot.keep_alive_seconds != float("inf"):
            slot.expiry = loop.call_later(slot.keep_alive_seconds, self._detach, slot)

    def _residents(self) -> list[Slot]:
        return [*self._slots.values(), *self._coming.values()]

    def _holds(self, slot: Slot) -> bool:
        return any(table.get(slot.found.id) is slot for table in (self._slots, self._coming))

    def _detach(self, slot: Slot) -> asyncio.Task[None]:
        """Takes the slot off the table now; the task is done when its worker has ended."""
        self._forget(slot)
        ending = asyncio.create_task(self._close(slot))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    def _forget(self, slot: Slot) -> None:
        slot.disarm()
        slot.open_again()
        self._eviction.freed()
        for table in (self._slots, self._coming):
            if table.get(slot.found.id) is slot:
                del table[slot.found.id]

    async def _close(self, slot: Slot) -> None:
        if slot.started is None:
            await asyncio.wait({slot.loading})  # it sees that its slot is off the table
        if slot.started is not None:
            await slot.started.close()
            _log.info("`%s` is unloaded", slot.found.name)

    async def _slots_of(self, name: str) -> list[Slot]:
        try:
            found = await self.find(name)
        except NotFound:
            slots = self._slots_called({name})  # removed from the store since it was loaded
            if not slots:
                raise
            return slots
        return self._slots_called({found.id, found.name})  # by name too: its tag may have moved on

    def _slots_called(self, words: set[str]) -> list[Slot]:
        return [slot for slot in self._residents() if not words.isdisjoint({slot.found.id, slot.found.name})]


@dataclass(frozen=True, slots=True)
class _Call:
    """What is asked of a model, and until when it may take."""

    kind: str
    name: str
    request: object
    deadline: float | None
    keep_alive_seconds: float | None = None


@asynccontextmanager
async def _within(deadline: float | None) -> AsyncIterator[None]:
    """Raises: TimedOut when the deadline comes first."""
    try:
        async with asyncio.timeout_at(deadline) as limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimedOut(
            "the request took longer than requests may",
            hint="ask for fewer tokens, or raise `request_timeout`",
        ) from error


async def _until(events: AsyncGenerator[Event], deadline: float) -> AsyncGenerator[Event]:
    """`events`, each of which must come before the deadline. Raises: TimedOut."""
    while True:
        try:
            async with _within(deadline):  # only while it waits: a timeout must not reach across a `yield`
                event = await anext(events)
        except StopAsyncIteration:
            return
        yield event


def _note_failure(loading: asyncio.Task[LoadedModel]) -> None:
    """Logs it, for those who waited may all have left."""
    if not loading.cancelled() and (error := loading.exception()):
        _log.warning("a model was not loaded: %s", error)


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
