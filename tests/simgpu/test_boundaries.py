"""A plan's figures are true to the byte: what fits by them loads; a byte less, or a layer more, does not."""

from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import MemoryShort
from qwenctl.flows.fit import subject_of_file
from qwenctl.model.host import Gpu
from qwenctl.model.memory.estimate import Estimator
from qwenctl.runner.messages import LoadOptions
from tests.shape_models import write_shape_model
from tests.simgpu.build import MIB, Card, simgpu_or_skip
from tests.simgpu.simgpu_builders import decide, figures, load, plan_of, with_room_for, without_margin

# The first use ever fetches 77 MB and compiles.
pytestmark = pytest.mark.timeout(600)

Case = tuple[str, str, LoadOptions, list[Card]]


@pytest.fixture(scope="module")
def library() -> Path:
    """The compiled backend."""
    return simgpu_or_skip()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are."""
    return tmp_path_factory.mktemp("models")


def model(directory: Path, shape: str, quantization: str) -> Path:
    """A model of this shape, written once."""
    path = directory / f"{shape}-{quantization}.gguf"
    return path if path.exists() else write_shape_model(path, shape, quantization)


def card(total_mib: int, free_mib: int | None = None, context_mib: int = 100) -> Card:
    """A card whose driver takes 100 MiB for itself."""
    free = None if free_mib is None else free_mib * MIB
    return Card(total=total_mib * MIB, free=free, context=context_mib * MIB)


def case(
    name: str, shape: str, quantization: str, cards: list[Card], *, slow: bool = False, **options: object
) -> object:
    """A parameter of a test."""
    wishes = msgspec.convert(options, LoadOptions)
    marks = [pytest.mark.slow] if slow else []
    return pytest.param((shape, quantization, wishes, cards), id=name, marks=marks)


PARTIAL = [
    case("flash attention", "qwen2.5-0.5b", "Q4_K_M", [card(1024, 700)], context_length=8192, slots=1),
    case("none", "qwen2.5-0.5b", "Q4_K_M", [card(1024)], context_length=16_384, flash_attention="off"),
    case("q8_0", "qwen3-0.6b", "Q4_0", [card(1200)], context_length=12_345, kv_type="q8_0"),
    case("two cards", "qwen2.5-0.5b", "F16", [card(1024, 700), card(800)], context_length=8192),
    case("slots", "qwen3-0.6b", "Q8_0", [card(2048)], context_length=4096, slots=3, slow=True),
    case("1.5B", "qwen2.5-1.5b", "Q8_0", [card(2048)], context_length=32_768, kv_type="q4_0", slow=True),
    case("three cards", "qwen2.5-1.5b", "F16", [card(900), card(1100), card(1000)], slow=True),
]
WHOLE = [
    case("one card", "qwen2.5-0.5b", "Q4_K_M", [card(2048)]),
    case("f32", "qwen3-0.6b", "Q4_0", [card(4096)], context_length=5000, slots=2, kv_type="f32", slow=True),
    case("the larger card", "qwen2.5-0.5b", "F16", [card(1024), card(4096, 2500)], context_length=4096),
    case("1.5B", "qwen2.5-1.5b", "Q4_K_M", [card(4096)], flash_attention="off", slow=True),
]


@pytest.mark.parametrize("given", PARTIAL)
def test_so_many_layers_and_not_one_more(library: Path, directory: Path, given: Case) -> None:
    """Where a plan leaves layers in RAM, its layers load into what it may take, and one more does not."""
    shape, quantization, wishes, cards = given
    decision = decide(model(directory, shape, quantization), library, cards, wishes)
    plan = plan_of(decision)
    assert plan.verdict == "partial"
    assert 0 < plan.estimate.gpu_layers < plan.estimate.layers
    budget = without_margin(cards)
    assert figures(load(decision.options, budget).memory) == figures(plan.estimate)
    more = msgspec.structs.replace(decision.options, gpu_layers=plan.estimate.gpu_layers + 1)
    with pytest.raises(MemoryShort, match="out of memory"):
        load(more, budget)


@pytest.mark.parametrize("given", [*PARTIAL[:1], *WHOLE])
def test_so_many_bytes_and_not_one_less(library: Path, directory: Path, given: Case) -> None:
    """A load takes the very bytes that were planned: with one less of any card it fails."""
    shape, quantization, wishes, cards = given
    decision = decide(model(directory, shape, quantization), library, cards, wishes)
    plan = plan_of(decision)
    assert not plan.estimate.pipeline
    exact = load(decision.options, with_room_for(plan.estimate, cards))
    assert figures(exact.memory) == figures(plan.estimate)
    for name in plan.devices:
        with pytest.raises(MemoryShort, match="out of memory"):
            load(decision.options, with_room_for(plan.estimate, cards, less=name))


def test_a_pipeline_and_its_second_attempt(library: Path, directory: Path) -> None:
    """All layers on two cards take the bytes of a pipeline; where one is missing, those without it."""
    cards = [card(700), card(800)]
    path = model(directory, "qwen2.5-0.5b", "Q4_K_M")
    decision = decide(path, library, cards, LoadOptions(context_length=4096))
    plan = plan_of(decision)
    assert (plan.verdict, plan.estimate.pipeline) == ("gpus", True)
    exact = load(decision.options, with_room_for(plan.estimate, cards))
    assert figures(exact.memory) == figures(plan.estimate)
    smaller = load(decision.options, with_room_for(plan.estimate, cards, less="CUDA0")).memory
    gpus = [Gpu(name=name, backend="cuda", total_bytes=0, free_bytes=0) for name in plan.devices]
    estimator = Estimator(subject_of_file(path).shape, gpus)
    without = estimator.estimate(plan.configuration, pipeline=False)
    assert figures(smaller) == figures(without)
    assert figures(load(decision.options, with_room_for(without, cards)).memory) == figures(without)
    with pytest.raises(MemoryShort, match="out of memory"):
        load(decision.options, with_room_for(without, cards, less="CUDA1"))


def test_what_cuda_needs_beside_the_buffers_counts(library: Path, directory: Path) -> None:
    """Of two cards with as much free memory, the one with the larger context of the driver holds less."""
    path = model(directory, "qwen2.5-0.5b", "Q4_K_M")
    wishes = LoadOptions(context_length=8192)
    layers = [
        plan_of(decide(path, library, [card(700, context_mib=mib)], wishes)).estimate.gpu_layers
        for mib in (50, 150)
    ]
    assert layers[0] > layers[1] > 0
