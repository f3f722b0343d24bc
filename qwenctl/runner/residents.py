"""The pool as the doors may see it."""

from collections.abc import Sequence

from qwenctl.api.library import Resident
from qwenctl.runner.messages import LoadedStatus, LoadOptions
from qwenctl.runner.pool import Pool


class PoolResidents:
    """The `api.library.Residents` of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def loaded(self) -> Sequence[Resident]:
        """See `Residents.loaded`."""
        return [_resident(status) for status in await self._pool.loaded()]

    async def load(
        self, name: str, *, context_length: int | None = None, keep_alive_seconds: float | None = None
    ) -> None:
        """See `Residents.load`."""
        options = LoadOptions(context_length=context_length)
        await self._pool.load(name, options, keep_alive_seconds=keep_alive_seconds)

    async def stop(self, name: str | None) -> Sequence[str]:
        """See `Residents.stop`."""
        return await self._pool.stop(name)


def _resident(status: LoadedStatus) -> Resident:
    model, plan = status.model, status.plan
    memory = (model.memory if model else None) or (plan.estimate if plan else None)
    return Resident(
        name=status.name,
        id=status.id,
        ready=status.state == "ready",
        requests=status.requests,
        expires_seconds=status.expires_seconds,
        context_length=model.context_length if model else None,
        memory_bytes=memory.total_bytes if memory else status.resident_bytes or 0,
        device_bytes=sum(device.total_bytes for device in memory.devices) if memory else 0,
        architecture=model.architecture if model else "",
        parameters=model.parameters if model else 0,
        quantization=model.quantization if model else "",
    )
