"""A store and a memory that are made up, for the doors that manage models."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.routing import BaseRoute

from qwenctl.api import anthropic, docker, ollama
from qwenctl.api.library import (
    BlobAt,
    ModelDetails,
    ModelSettings,
    Progress,
    Removed,
    Resident,
    Resolved,
    StoredModel,
    Transferred,
)
from qwenctl.errors import Conflict, QwenctlError, ReferenceUnknown
from tests.api.api_builders import ScriptedHost

TINY = StoredModel(
    name="tiny",
    reference="docker.io/ai/tiny:latest",
    id="sha256:" + "1" * 64,
    size_bytes=1024 * 1024,
    created_seconds=1700000000,
    changed_seconds=1700000000.5,
    format="gguf",
    architecture="qwen2",
    parameters="7.62 B",
    quantization="Q4_K_M",
    context_length=4096,
    summary={"general.name": "Tiny"},
)
OTHER = replace(TINY, name="me/other:7B", reference="docker.io/me/other:7B", id="sha256:" + "2" * 64)
BLOB = "sha256:" + "ab" * 32
TRANSFER: tuple[Progress, ...] = (
    Resolved(TINY.id, 1000),
    BlobAt(BLOB, 900, 0),
    BlobAt(BLOB, 900, 450),
    BlobAt(BLOB, 900, 900),
    Transferred("tiny", TINY.id, 900),
)


class Shelf:
    """A `Library` of two models and `Residents`, none at first; it remembers what was done to it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As it was made."""
        self.stored = {model.name: model for model in (TINY, OTHER)}
        self.template = "{% if tools %}{{ enable_thinking }}{% endif %}"
        self.steps: Sequence[Progress] = TRANSFER
        self.error: QwenctlError | None = None
        self.error_after: int | None = None
        self.closed = threading.Event()
        self.endless = False
        self.transfers: list[tuple[str, str, bool]] = []
        self.forced: list[bool] = []
        self.set: dict[str, int] = {}
        self.kept: list[str | None] = []
        self.residents: list[Resident] = []
        self.loads: list[tuple[str, int | None, float | None]] = []
        self.stops: list[str | None] = []

    def routes(self, host: ScriptedHost) -> list[BaseRoute]:
        """The doors over it and `host`."""
        managed = [*ollama.routes(host, self, self), *docker.routes(self, self)]
        return [*anthropic.routes(host), *managed]

    async def models(self) -> Sequence[StoredModel]:
        """See `Library`."""
        return sorted(self.stored.values(), key=lambda model: model.name)

    async def find(self, name: str) -> StoredModel:
        """See `Library`."""
        for model in self.stored.values():
            if name in (model.name, model.reference, model.id):
                return model
        raise ReferenceUnknown(f"no model `{name}` in the store", hint=f"`qwenctl pull {name}`")

    async def show(self, name: str) -> ModelDetails:
        """See `Library`."""
        model = await self.find(name)
        return ModelDetails(
            model=model,
            names=(model.reference,),
            metadata={"general.architecture": "qwen2", "tokenizer.ggml.tokens": ["a"], "long": None},
            parameter_count=7_000,
            template=self.template,
            license="Apache-2.0",
            sampling={"temperature": 0.7, "top_k": 20},
            embeds=not self.template,
        )

    def pull(self, name: str, *, insecure: bool = False, force: bool = False) -> AsyncGenerator[Progress]:
        """See `Library`."""
        self.forced.append(force)
        return self._transfer("pull", name, insecure)

    def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """See `Library`."""
        return self._transfer("push", name, insecure)

    async def _transfer(self, verb: str, name: str, insecure: bool) -> AsyncGenerator[Progress]:
        closed = self.closed
        self.transfers.append((verb, name, insecure))
        try:
            for number, step in enumerate(self.steps):
                if self.error and number == (self.error_after or 0):
                    raise self.error
                yield step
            while self.endless:
                await asyncio.sleep(0.01)
                yield BlobAt(BLOB, 900, 1)
        finally:
            closed.set()

    async def tag(self, source: str, target: str) -> StoredModel:
        """See `Library`."""
        model = replace(await self.find(source), name=target, reference=f"docker.io/ai/{target}")
        self.stored[target] = model
        return model

    async def remove(self, name: str, *, force: bool = False) -> Removed:
        """See `Library`."""
        self.forced.append(force)
        model = self.stored.pop((await self.find(name)).name)
        last = all(other.id != model.id for other in self.stored.values())
        return Removed((model.name,), (model.id,) if last else ())

    async def disk_bytes(self) -> int:
        """See `Library`."""
        return 4711

    async def configure(self, name: str, *, context_length: int | None, keep_alive: str | None) -> None:
        """See `Library`."""
        model = await self.find(name)
        self.kept.append(keep_alive)
        self.set.pop(model.reference, None)
        if context_length:
            self.set[model.reference] = context_length

    async def change(
        self, name: str, given: Mapping[str, Any], unset: Sequence[str], *, reset: bool = False
    ) -> ModelSettings:
        """See `Library`; only what is given counts."""
        model = await self.find(name)
        return ModelSettings(model.name, model.reference, given)

    async def contexts(self) -> Mapping[str, int]:
        """See `Library`."""
        return self.set

    async def loaded(self) -> Sequence[Resident]:
        """See `Residents`."""
        return list(self.residents)

    async def load(
        self, name: str, *, context_length: int | None = None, keep_alive_seconds: float | None = None
    ) -> None:
        """See `Residents`."""
        if any(resident.requests and context_length for resident in self.residents):
            raise Conflict("it works")
        self.loads.append((name, context_length, keep_alive_seconds))

    async def stop(self, name: str | None) -> Sequence[str]:
        """See `Residents`."""
        self.stops.append(name)
        return []


def resident(model: StoredModel = TINY, *, requests: int = 0, expires_seconds: float | None = 60) -> Resident:
    """`model` in memory, half of it on a GPU."""
    return Resident(
        name=model.name,
        id=model.id,
        ready=True,
        requests=requests,
        expires_seconds=expires_seconds,
        context_length=2048,
        memory_bytes=2000,
        device_bytes=1000,
        architecture="qwen2",
        parameters=7_620_000_000,
        quantization="Q4_K_M",
    )
