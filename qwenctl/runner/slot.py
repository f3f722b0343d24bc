"""A place for one model in the pool: the load that fills it, the worker, and who holds it."""

import asyncio
from contextlib import suppress
from typing import Final

import msgspec

from qwenctl.errors import WorkerDied
from qwenctl.model.memory.figures import Estimate
from qwenctl.runner.messages import LoadedStatus, LoadOptions
from qwenctl.runner.models import FoundModel, LoadDecision
from qwenctl.runner.supervisor import Worker
from qwenctl.runtime import wire
from qwenctl.runtime.engine import LoadedModel

_STATS_SECONDS: Final = 1.0  # a status must not hang on a worker that does


class Slot:
    """One model on its way into memory, or there. Belongs to the pool's event loop."""

    def __init__(self, found: FoundModel, options: LoadOptions, keep_alive_seconds: float) -> None:
        self.found = found
        self.options = options
        self.keep_alive_seconds = keep_alive_seconds
        self.holders = 0
        self.outside = 0
        """Requests that wait for a drained model to be gone."""
        self.last_used = 0.0
        self.expiry: asyncio.TimerHandle | None = None
        self.decision: LoadDecision | None = None
        self.started: Worker | None = None
        self.loading: asyncio.Task[LoadedModel]
        self._open = asyncio.Event()
        self._open.set()

    @property
    def draining(self) -> bool:
        """Whether it takes no new requests, because another model waits for its place."""
        return not self._open.is_set()

    def drain(self) -> None:
        """Takes no new requests from now on."""
        self._open.clear()

    def open_again(self) -> None:
        """Lets those go on who wait: it stays after all, or it is gone."""
        self._open.set()

    async def wait_until_open(self) -> None:
        """Returns after `open_again`."""
        self.outside += 1
        try:
            await self._open.wait()
        finally:
            self.outside -= 1

    @property
    def model(self) -> LoadedModel | None:
        """What was loaded, once it is."""
        task = self.loading
        failed = not task.done() or task.cancelled() or task.exception()
        return None if failed else task.result()

    @property
    def worker(self) -> Worker:
        """The worker of a model that is loaded."""
        assert self.started is not None, "a lease waits for the load"
        return self.started

    @property
    def memory(self) -> Estimate | None:
        """What the loaded model takes: by llama.cpp's account, or by the plan where it gives none."""
        model, plan = self.model, self.decision.plan if self.decision else None
        if model is None:
            return None
        return model.memory or (plan.estimate if plan else None)

    @property
    def remaining_seconds(self) -> float | None:
        """Until it is unloaded; None while it works, or for ever."""
        if self.expiry is None:
            return None
        return max(0.0, self.expiry.when() - asyncio.get_running_loop().time())

    def suits(self, options: LoadOptions) -> bool:
        """Whether the wishes are met by how the model was, or is being, loaded."""
        mine = self.options.given()
        if self.decision is not None:
            mine = {**msgspec.structs.asdict(self.decision.options), **mine}
        return all(mine.get(name) == value for name, value in options.given().items())

    def disarm(self) -> None:
        """Stops the clock of the keep-alive."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    async def status(self) -> LoadedStatus:
        """How it is now."""
        model = self.model
        stats = await _stats(self.worker) if model else None
        return LoadedStatus(
            name=self.found.name,
            id=self.found.id,
            state="ready" if model else "loading",
            requests=self.holders,
            waiting=stats.engine.waiting if stats else 0 if model else self.holders,
            expires_seconds=self.remaining_seconds,
            pid=self.started.pid if self.started else None,
            resident_bytes=stats.resident_bytes if stats else None,
            model=model,
            plan=self.decision.plan if self.decision else None,
            options=self.options,
            configured=tuple(self.found.configured.names()),
        )


async def _stats(worker: Worker) -> wire.Stats | None:
    with suppress(TimeoutError, WorkerDied):
        return await asyncio.wait_for(worker.stats(), _STATS_SECONDS)
    return None
