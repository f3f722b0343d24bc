"""llama.cpp's own figures beside ours: sampled ways to load a model, both answers, and how they differ.

    model = open_truth(path)                              a file with the model's header
    samples = sample(random.Random(1), model, gpus, 100)  gpus by `sample_gpus`, () is the CPU alone
    for item in compare(model, samples, gpus, library):   library of simulated GPUs, None without GPUs
        item.differences                                  {} where all figures agree

The figures come from a child process that measures without allocating (10 ms each), or that really loads
the model (`allocate`) into simulated GPUs, whose memory costs nothing until it is written to.
"""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from qwenctl.model.gguf import read_header
from qwenctl.model.host import DEVICE_NAMES, Backend, Gpu
from qwenctl.model.memory.configuration import QUANTIZED_KV, Configuration, FlashAttention, KvType
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.outline import Outline
from qwenctl.model.shape import Shape
from qwenctl.runtime.measure import Call, run_child, write_skeleton
from tests.model.memory.memory_builders import known_shape, shape_of
from tests.simgpu.build import GIB, Card, simulate

_CONTEXTS: Final = (512, 1000, 2048, 4096, 5000, 8192, 12_345, 16_384, 32_768, 65_536, 131_072)
_BATCHES: Final = (
    (512, 512),
    (512, 512),
    (2048, 512),
    (2048, 2048),
    (256, 256),
    (512, 64),
    (64, 16),
    (100, 100),
    (8, 8),
    (32, 2),
)
_KV: Final[tuple[KvType, ...]] = ("f16", "f16", "f16", "q8_0", "q8_0", "q4_0")
_RARE_KV: Final[tuple[KvType, ...]] = ("f32", "bf16", "q5_1", "q5_0", "q4_1")
MAYBE_REPACKED: Final = frozenset({2, 8, 10, 12, 13, 14, 20})
"""Q4_0, Q8_0, Q2_K, Q4_K, Q5_K, Q6_K, IQ4_NL. Source: ggml-cpu/repack.cpp."""
_SHARES: Final = (1.0, 2.0, 3.5, 8.0)


@dataclass(frozen=True)
class Model:
    """A model file whose contents may be missing, and its header."""

    path: Path
    shape: Shape

    @property
    def layers(self) -> int:
        """Without the output."""
        return self.shape.block_count or 0


@dataclass(frozen=True)
class Comparison:
    """Both answers for one configuration; `truth` None where llama.cpp refused it, for a `reason`."""

    configuration: Configuration
    gpus: int
    computed: Estimate
    truth: Estimate | None
    reason: str = ""

    @property
    def differences(self) -> Mapping[str, int]:
        """Ours minus llama.cpp's, for each figure where they differ. What it refused differs in all."""
        if self.truth is None:
            return {f"refused: {self.reason}": self.computed.total_bytes}
        ours, theirs = _figures(self.computed), _figures(self.truth)
        names = [*ours, *(name for name in theirs if name not in ours)]
        return {
            name: ours.get(name, 0) - theirs.get(name, 0)
            for name in names
            if ours.get(name, 0) != theirs.get(name, 0)
        }

    @property
    def error(self) -> float:
        """The relative error of the total."""
        if self.truth is None:
            return float("inf")
        return (self.computed.total_bytes - self.truth.total_bytes) / self.truth.total_bytes

    def describe(self) -> str:
        """The configuration as far as it is not the usual, and what differs."""
        default = Configuration(context_tokens=1)
        chosen = {
            name: value
            for name in Configuration.__struct_fields__
            if (value := getattr(self.configuration, name)) != getattr(default, name)
        }
        return f"{self.gpus} GPUs, {chosen}: {self.error:+.3%} {dict(self.differences)}"


def open_truth(path: Path) -> Model:
    """The model in the file `path`."""
    with path.open("rb") as file:
        return Model(path, Shape.of(read_header(file)))


def invent(
    path: Path, outline: Outline, quantization: str, further: Mapping[str, int] | None = None
) -> Model:
    """A model of any shape as a skeleton in the file `path`. `further` are keys of its architecture."""
    shape = shape_of(outline, quantization, further)
    write_skeleton(shape, path)
    return Model(path, shape)


def of_shape(directory: Path, name: str, quantization: str) -> Model:
    """A well-known model of `tests.shape_models.SHAPES` as a skeleton."""
    path = directory / f"{name}-{quantization}.gguf"
    shape = known_shape(name, quantization)
    write_skeleton(shape, path)
    return Model(path, shape)


def repacked_by_llama_cpp(directory: Path) -> frozenset[int]:
    """The types that llama.cpp's CPU backend stores in another order on this machine.

    Told by an embedding that serves as the output too: the one in the other order is a second copy.
    """
    outline = Outline("qwen2", 1, 256, 256, 4, 2, 64, 64, 256, True)
    found = set()
    for kind in sorted(MAYBE_REPACKED):
        plain = invent(directory / f"repacked-{kind}.gguf", outline, "F16")
        tensors = [
            replace(item, type=kind) if item.name == "token_embd.weight" else item
            for item in plain.shape.tensors
        ]
        shape = replace(plain.shape, tensors=tuple(tensors))
        write_skeleton(shape, plain.path)
        once = Model(plain.path, shape)
        if compare(once, [Configuration(context_tokens=512, gpu_layers=0)])[0].differences:
            found.add(kind)
    return frozenset(found)


def skeleton_of(model: Model, directory: Path) -> Model:
    """The same model in a file that has the skeleton alone, which opens in milliseconds."""
    path = directory / f"{model.path.stem}.skeleton"
    write_skeleton(model.shape, path)
    return Model(path, model.shape)


def sample_gpus(chance: random.Random, count: int, backend: Backend = "cuda") -> tuple[Gpu, ...]:
    """Large GPUs of one kind with free memory in different proportions."""
    return tuple(
        Gpu(
            name=f"{DEVICE_NAMES[backend]}{index}",
            backend=backend,
            total_bytes=4096 * GIB,
            free_bytes=chance.choice((1024, 2048, 3072, 4000)) * GIB,
        )
        for index in range(count)
    )


def sample(
    chance: random.Random,
    model: Model,
    gpus: Sequence[Gpu],
    count: int,
    *,
    longest_tokens: int = 131_072,
    placements: int = 6,
) -> list[Configuration]:
    """`count` configurations with at most so many placements, each of which llama.cpp loads the model for."""
    places = [_sample_placement(chance, model.layers, gpus) for _ in range(placements)]
    contexts = [tokens for tokens in _CONTEXTS if tokens <= longest_tokens]
    return [_sample_one(chance, contexts, *places[index * placements // count]) for index in range(count)]


def compare(
    model: Model,
    configurations: Sequence[Configuration],
    gpus: Sequence[Gpu] = (),
    library: Path | None = None,
    *,
    allocate: bool = False,
    repacked: frozenset[int] = frozenset(),
) -> list[Comparison]:
    """Our figures beside those of llama.cpp, in a process that has `gpus`.

    Without allocating, llama.cpp forgets which GPU the norms are bound to; our figures follow it in that.
    """
    estimator = Estimator(model.shape, gpus, repacked)
    answers = truths(model, configurations, gpus, library, allocate=allocate)
    return [
        Comparison(
            configuration,
            len(gpus),
            estimator.estimate(configuration, pinned=allocate),
            truth,
            reason,
        )
        for configuration, (truth, reason) in zip(configurations, answers, strict=True)
    ]


def truths(
    model: Model,
    configurations: Sequence[Configuration],
    gpus: Sequence[Gpu] = (),
    library: Path | None = None,
    *,
    allocate: bool = False,
) -> list[tuple[Estimate | None, str]]:
    """llama.cpp's figures for each configuration, or the reason why it refused."""
    call = Call(
        path=model.path,
        configurations=[*configurations],
        devices=None if gpus else (),
        backends=[library] if library and gpus else [],
        allocate=allocate,
    )
    with simulated(gpus):
        answer = run_child(call)
    problems = iter(answer.problems)
    return [(item, "" if item else next(problems, "no account")) for item in answer.estimates]


@contextmanager
def simulated(gpus: Sequence[Gpu]) -> Iterator[None]:
    """The environment of children that have these GPUs, and the one before it afterwards."""
    cards = [
        Card(total=gpu.total_bytes, free=gpu.free_bytes, kind=gpu.backend)
        for gpu in gpus
        if gpu.backend in ("cuda", "vulkan", "metal")
    ]
    before = os.environ.get("SIMGPU")
    os.environ.update(simulate(*cards) if cards else {})
    try:
        yield
    finally:
        os.environ.pop("SIMGPU", None)
        if before is not None:
            os.environ["SIMGPU"] = before


def _sample_placement(
    chance: random.Random, layers: int, gpus: Sequence[Gpu]
) -> tuple[int, tuple[float, ...]]:
    if not gpus:
        return 0, ()
    on_gpus = chance.choice((-1, -1, layers + 1, layers, layers // 2, 1, 2, 0, chance.randrange(layers)))
    shares = tuple(chance.choice(_SHARES) for _ in gpus) if chance.random() < 0.5 else ()
    return on_gpus, shares


def _sample_one(
    chance: random.Random, contexts: Sequence[int], gpu_layers: int, shares: tuple[float, ...]
) -> Configuration:
    kv = chance.choice(_KV if chance.random() < 0.85 else _RARE_KV)
    attention: tuple[FlashAttention, ...] = ("auto", "on") if kv in QUANTIZED_KV else ("auto", "on", "off")
    # one token at a time over bf16, CUDA chooses its kernel by more than our rules have
    batch, ubatch = chance.choice(_BATCHES if kv != "bf16" else _BATCHES[:5])
    return Configuration(
        context_tokens=chance.choice(contexts),
        slots=chance.choice((1, 1, 1, 2, 3, 4)),
        batch_tokens=batch,
        ubatch_tokens=ubatch,
        flash_attention=chance.choice(attention),
        kv_type=kv,
        gpu_layers=gpu_layers,
        tensor_split=shares,
        outputs=chance.choice((None, None, 0)),
        unified=chance.random() < 0.25,
        full_windows=chance.random() < 0.7,
    )


def _figures(estimate: Estimate) -> dict[str, int]:
    figures = {name: int(getattr(estimate, name)) for name in ("flash_attention", "pipeline", "layers")}
    places: list[DeviceMemory | HostMemory] = [*estimate.devices, estimate.host]
    for place in places:
        name = place.name if isinstance(place, DeviceMemory) else "host"
        figures[f"{name} weights"] = place.weights_bytes
        figures[f"{name} cache"] = place.kv_cache_bytes
        figures[f"{name} compute"] = place.compute_bytes
    return figures
