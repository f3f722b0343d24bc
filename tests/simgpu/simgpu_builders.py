"""Plans and loads on simulated GPUs, through our own planner and our own workers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qwenctl.cli.memory import MemoryPlanner
from qwenctl.model.host import GPU_MARGIN_BYTES
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.plan import Plan
from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.models import FoundModel, LoadDecision
from qwenctl.runner.supervisor import Worker
from qwenctl.runtime.engine import EngineOptions, LoadedModel
from qwenctl.settings import Settings
from tests.runner.runner_builders import settings_in
from tests.simgpu.build import Card, simulate

Cards = Sequence[Card]


@dataclass(frozen=True)
class Figures:
    """What an estimate says, without how it came about: equal for a plan and a load that keeps to it."""

    devices: tuple[DeviceMemory, ...]
    host: HostMemory
    gpu_layers: int
    flash_attention: bool
    pipeline: bool


def figures(estimate: Estimate | None) -> Figures:
    """The figures of an estimate that must be there; devices that hold nothing left out."""
    assert estimate is not None
    return Figures(
        devices=tuple(device for device in estimate.devices if device.total_bytes),
        host=estimate.host,
        gpu_layers=estimate.gpu_layers,
        flash_attention=estimate.flash_attention,
        pipeline=estimate.pipeline,
    )


def sim_settings(directory: Path, library: Path) -> Settings:
    """Settings below `directory` whose processes load the library of simulated GPUs."""
    return replace(settings_in(directory), ggml_backends=(library,))


def use_cards(cards: Cards, **others: Any) -> None:
    """Gives these cards to the processes that are started from now on; see `simulate`."""
    for name in [name for name in os.environ if name.startswith("SIMGPU")]:
        del os.environ[name]
    os.environ.update(simulate(*cards, **others))


def decide(
    path: Path,
    library: Path,
    cards: Cards,
    options: LoadOptions | None = None,
    held: Mapping[str, Estimate] | None = None,
) -> LoadDecision:
    """What the runner decides for a model on a machine with these cards."""
    use_cards(cards)
    found = FoundModel(name=path.stem, id=f"sha256:{path.stem}", path=path)
    planner = MemoryPlanner(sim_settings(path.parent, library))
    return planner.decide(found, options or LoadOptions(), held or {})


def plan_of(decision: LoadDecision) -> Plan:
    """The plan that must be there."""
    assert decision.plan is not None
    return decision.plan


def load(options: EngineOptions, cards: Cards) -> LoadedModel:
    """The model as a worker loads it on these cards. Raises: what the worker reports."""
    use_cards(cards)

    async def in_worker() -> LoadedModel:
        worker = await Worker.start()
        try:
            return await worker.load(options.path.stem, options)
        finally:
            await worker.close()

    return asyncio.run(in_worker())


def without_margin(cards: Cards) -> list[Card]:
    """The cards with just what a plan may take of them."""
    return [replace(card, free=_free(card) - max(GPU_MARGIN_BYTES, card.total // 50)) for card in cards]


def with_room_for(estimate: Estimate, cards: Cards, *, less: str = "") -> list[Card]:
    """The cards with just what `estimate` and the driver take of them; the one named `less` lacks a byte."""
    needed = {device.name: device.total_bytes for device in estimate.devices}
    named = [(f"CUDA{number}", card) for number, card in enumerate(cards)]
    return [
        replace(card, free=card.context + needed[name] - (name == less)) if name in needed else card
        for name, card in named
    ]


def _free(card: Card) -> int:
    return card.total if card.free is None else card.free


class Crowded:
    """A planner on whose plans another program is faster: it takes memory before the model is loaded.

    `step` is called after each decision, until it is set to None.
    """

    def __init__(self, settings: Settings, step: Callable[[], object]) -> None:
        self._planner = MemoryPlanner(settings)
        self.step: Callable[[], object] | None = step

    def decide(
        self,
        found: FoundModel,
        options: LoadOptions,
        held: Mapping[str, Estimate],
        leaving: Collection[str] = (),
    ) -> LoadDecision:
        """See `LoadPlanner`."""
        decision = self._planner.decide(found, options, held, leaving)
        if self.step is not None:
            self.step()
        return decision


class OtherProgram:
    """A process that holds a model on the cards of this environment from `start` to `end`."""

    def __init__(self, library: Path, path: Path) -> None:
        self._argv = [sys.executable, "-m", "tests.simgpu.simgpu_program", str(library), "hold", str(path)]
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when the model is there."""
        self._child = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._child.stdout is not None
        assert "free_bytes" in self._child.stdout.readline()

    def close(self) -> None:
        """Returns when its memory is free again. Idempotent."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None
