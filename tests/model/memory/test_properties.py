"""What holds of every estimate: it grows with what is asked for, adds up, and survives any header."""

import random
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.errors import Malformed, UsageError
from qwenctl.model.gguf import Array, Tensor, Value, ValueType, read_header
from qwenctl.model.host import Gpu
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.estimate import Estimator
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.hyperparameters import MAX_LAYERS, Unknown
from qwenctl.model.shape import Shape
from qwenctl.model.skeleton import make_skeleton
from tests.model.memory.memory_builders import TINY, gpus, known_shape, retensored, shape_of

FAMILIES = ("qwen2.5-0.5b", "qwen3-0.6b", "qwen3-30b-a3b", "llama-3.2-1b", "gemma-2-2b", "gemma-3-1b")
MACHINES = ((), gpus(8), gpus(8, 4), gpus(8, backend="vulkan"), gpus(8, backend="metal"))


def estimates(name: str, machine: Sequence[Gpu], series: Sequence[Configuration]) -> list[Estimate]:
    """One for each configuration."""
    estimator = Estimator(known_shape(name), machine)
    return [estimator.estimate(configuration) for configuration in series]


def assert_growing(values: Sequence[int]) -> None:
    """None is smaller than the one before it."""
    assert list(values) == sorted(values)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda some: "+".join(gpu.name for gpu in some) or "cpu")
@pytest.mark.parametrize("name", FAMILIES)
def test_more_context_takes_no_less_memory(name: str, machine: Sequence[Gpu]) -> None:
    """In total, and on each device."""
    base = Configuration(context_tokens=512, slots=2)
    contexts = (512, 1000, 2048, 5000, 8192, 32_768)
    series = [msgspec.structs.replace(base, context_tokens=tokens) for tokens in contexts]
    made = estimates(name, machine, series)
    assert_growing([item.total_bytes for item in made])
    for index in range(len(machine)):
        assert_growing([item.devices[index].total_bytes for item in made])


@pytest.mark.parametrize("name", FAMILIES)
def test_more_slots_take_no_less_memory(name: str) -> None:
    """Each has a context of its own, and a row of logits."""
    series = [Configuration(context_tokens=2048, slots=slots) for slots in (1, 2, 3, 4, 8)]
    for machine in ((), gpus(8)):
        assert_growing([item.total_bytes for item in estimates(name, machine, series)])


@pytest.mark.parametrize("name", FAMILIES)
def test_more_layers_on_a_gpu_take_no_less_there(name: str) -> None:
    """Weights and cache move over from the host; of the whole model's, none is lost."""
    estimator = Estimator(known_shape(name), gpus(8))
    layers = estimator.model.layers + 1
    made = [
        estimator.estimate(Configuration(context_tokens=2048, gpu_layers=count))
        for count in range(layers + 1)
    ]
    assert [item.gpu_layers for item in made] == [*range(layers + 1)]
    assert_growing([item.devices[0].weights_bytes + item.devices[0].kv_cache_bytes for item in made])
    assert_growing([item.host.weights_bytes + item.host.kv_cache_bytes for item in reversed(made)])
    assert len({item.devices[0].kv_cache_bytes + item.host.kv_cache_bytes for item in made}) == 1


@given(
    st.sampled_from(FAMILIES[:2]),
    st.sampled_from(MACHINES),
    st.integers(1, 40_000),
    st.integers(1, 5),
    st.integers(1, 700),
    st.integers(-1, 40),
    st.sampled_from(("f16", "q8_0", "f32")),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_configuration_has_plausible_figures(
    name: str,
    machine: Sequence[Gpu],
    tokens: int,
    slots: int,
    ubatch: int,
    layers: int,
    kv: Any,
    unified: bool,
) -> None:
    """Weights are those of the file, the cache is what the formula says, nothing is negative."""
    shape = known_shape(name)
    configuration = Configuration(
        context_tokens=tokens,
        slots=slots,
        ubatch_tokens=ubatch,
        gpu_layers=layers,
        kv_type=kv,
        unified=unified,
    )
    made = Estimator(shape, machine).estimate(configuration)
    assert len(made.devices) == len(machine)
    assert made.host.compute_bytes > 0 and made.host.kv_cache_bytes >= 0
    assert all(device.compute_bytes >= 0 and device.kv_cache_bytes >= 0 for device in made.devices)
    weights = sum(device.weights_bytes for device in made.devices) + made.host.weights_bytes
    assert shape.weights_bytes <= weights <= 1.6 * shape.weights_bytes  # a tied output is there twice
    model = Estimator(shape, ()).model
    bytes_of = {"f16": 2.0, "f32": 4.0, "q8_0": 34 / 32}
    by_token = model.layers * (model.key_row + model.value_row) * bytes_of[kv]
    cache = sum(device.kv_cache_bytes for device in made.devices) + made.host.kv_cache_bytes
    cells = -(-tokens // 256) * 256
    assert cache >= by_token * cells * (1 if unified else slots)


WILD: tuple[Value, ...] = (
    0,
    1,
    -1,
    2,
    3,
    255,
    1 << 20,
    (1 << 63) - 1,
    -(1 << 62),
    True,
    1.5,
    float("nan"),
    "",
    "qwen2",
    "gemma3",
    Array(ValueType.INT32, 3, (1, 2, 3)),
    Array(ValueType.INT32, 3, (0, 0, 0)),
    Array(ValueType.UINT8, 0, ()),
    Array(ValueType.STRING, 1 << 40, None),
)
NAMES = (
    "output.weight",
    "blk.0.attn_q.bias",
    "blk.9999.attn_q.weight",
    "rope_freqs.weight",
    "x",
    "blk.-1.attn_q.weight",
)


def mutated(chance: random.Random, shape: Shape) -> Shape:
    """One to three changes of metadata or tensors."""
    metadata, tensors = dict(shape.header.metadata), list(shape.tensors)
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.6:
            further = f"{shape.architecture}.{chance.choice(('attention.sliding_window', 'expert_count'))}"
            metadata[chance.choice((*metadata, further))] = chance.choice(WILD)
            continue
        index = chance.randrange(len(tensors))
        old = tensors[index]
        wild = (0, 1, 64, 1 << 31)
        changes: tuple[Tensor | None, ...] = (
            None,
            replace(old, name=chance.choice(NAMES)),
            replace(old, dimensions=tuple(chance.choice(wild) for _ in range(chance.randint(0, 4)))),
            replace(old, type=chance.choice((0, 1, 2, 8, 12, 24, 30, 39))),
        )
        new = chance.choice(changes)
        tensors[index : index + 1] = [new] if new else []
    return Shape.of(replace(shape.header, metadata=metadata, tensors=tuple(tensors)))


@pytest.mark.parametrize("seed", range(300))
def test_a_mutated_header_has_an_estimate_or_a_reason(seed: int) -> None:
    """Never another error, and never long: the graph's size is bounded by what llama.cpp takes."""
    chance = random.Random(seed)
    outline = chance.choice(
        (
            TINY,
            replace(TINY, architecture="qwen3"),
            replace(TINY, architecture="gemma2", tied=True),
            replace(TINY, architecture="gemma3", tied=True),
            replace(TINY, architecture="llama", rope_factors=32),
            replace(TINY, architecture="qwen3moe", expert_count=8, expert_feed_forward_length=64),
        )
    )
    shape = shape_of(outline, further={"expert_used_count": 2} if outline.expert_count else None)
    machine = chance.choice(MACHINES)
    try:
        changed = mutated(chance, shape)
        configuration = Configuration(context_tokens=1024, slots=2, gpu_layers=chance.choice((-1, 0, 2)))
        made = Estimator(changed, machine).estimate(configuration)
    except (Unknown, Malformed, UsageError) as error:
        assert str(error)
    else:
        assert made.total_bytes > 0


def test_the_largest_model_that_is_taken_is_computed_in_bounded_time() -> None:
    """512 layers; more are refused before anything is built."""
    deep = shape_of(replace(TINY, block_count=255))
    extra = [
        replace(tensor, name=tensor.name.replace("blk.0.", f"blk.{layer}."))
        for layer in range(255, MAX_LAYERS)
        for tensor in deep.tensors
        if tensor.name.startswith("blk.0.")
    ]
    metadata = {**deep.header.metadata, "qwen2.block_count": MAX_LAYERS}
    deepest = Shape.of(replace(retensored(deep, *extra).header, metadata=metadata))
    assert Estimator(deepest, ()).estimate(Configuration(context_tokens=512)).layers == MAX_LAYERS + 1


@pytest.mark.parametrize("name", FAMILIES)
def test_a_skeleton_has_the_same_estimate(name: str) -> None:
    """What llama.cpp measures and what is computed start from the same numbers."""
    shape = known_shape(name)
    again = Shape.of(read_header(BytesIO(make_skeleton(shape).header)))
    configuration = Configuration(context_tokens=4096, slots=2)
    one, two = (Estimator(item, gpus(8)).estimate(configuration) for item in (shape, again))
    assert one == two
