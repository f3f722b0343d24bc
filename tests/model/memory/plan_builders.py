"""Machines and planners made by hand, for tests of plans: real arithmetic over real shapes of models."""

from collections.abc import Sequence
from functools import cache

from qwenctl.model.host import Gpu, Host, Ram
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.plan import Planner
from qwenctl.model.outline import Outline
from qwenctl.model.reach import Reach
from qwenctl.model.shape import Shape
from tests.model.memory.memory_builders import changed, known_shape, shape_of

GIB = 1 << 30
MIB = 1 << 20

SMALL = Outline("qwen2", 6, 1024, 4096, 8, 2, 128, 128, 64_000, False)
"""Six layers of 26 MiB in Q4_K_M, quickly planned; trained for as many tokens as Qwen2.5."""


class Computing:
    """`Estimating` by the computation; what was asked once is remembered, for the bytes stay the same."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._known: dict[object, Estimate] = {}

    def __call__(
        self, configuration: Configuration, gpus: Sequence[Gpu], *, pipeline: bool = True
    ) -> Estimate:
        """See `Estimating`."""
        names = tuple((gpu.name, gpu.backend) for gpu in gpus)
        asked = (configuration, names, pipeline)
        if asked not in self._known:
            self._known[asked] = Estimator(self.shape, gpus).estimate(configuration, pipeline=pipeline)
        return self._known[asked]


@cache
def qwen(name: str = "qwen2.5-7b", quantization: str = "Q4_K_M") -> Computing:
    """A well-known model, trained for 32,768 tokens."""
    shape = known_shape(name, quantization)
    return Computing(changed(shape, {f"{shape.architecture}.context_length": 32_768}))


@cache
def small() -> Computing:
    """`SMALL`, trained for 32,768 tokens."""
    return Computing(shape_of(SMALL, "Q4_K_M", {"context_length": 32_768}))


def planner(model: Computing, host: Host) -> Planner:
    """A planner for a model that was trained for 32,768 tokens."""
    layers = model.shape.block_count
    assert layers is not None
    return Planner(host, model, layers + 1, Reach(32_768, 131_072, 32_768))


def card(free_gib: float, index: int = 0, *, overhead_mib: int = 300, shares_ram: bool = False) -> Gpu:
    """A GPU of CUDA with so much free memory, of twice as much."""
    free = int(free_gib * GIB)
    return Gpu(
        name=f"CUDA{index}",
        backend="cuda",
        total_bytes=2 * free,
        free_bytes=free,
        overhead_bytes=overhead_mib * MIB,
        shares_ram=shares_ram,
    )


def machine(available_gib: float, *free_gib: float, shares_ram: bool = False) -> Host:
    """A machine with so much available RAM, of twice as much, and a GPU for each further number."""
    available = int(available_gib * GIB)
    return Host(
        ram=Ram(total_bytes=2 * available, available_bytes=available),
        gpus=tuple(card(free, index, shares_ram=shares_ram) for index, free in enumerate(free_gib)),
    )
