"""Layers on devices, and what weights and cache take there."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.model.gguf import Tensor
from qwenctl.model.memory.backends import CPU_RULES, RULES
from qwenctl.model.memory.hyperparameters import Hyperparameters, read_hyperparameters
from qwenctl.model.memory.placement import place_layers, weight_bytes
from qwenctl.model.quantization import TENSOR_TYPES
from tests.model.memory.memory_builders import TINY, known_shape, retensored, shape_of

NONE: frozenset[int] = frozenset()


@pytest.mark.parametrize(
    ("gpu_layers", "shares", "expected"),
    [
        (-1, (), (0, 0, 0, 0, 0)),
        (0, (1.0,), (1, 1, 1, 1, 1)),
        (1, (1.0,), (1, 1, 1, 1, 0)),  # the output goes first
        (3, (1.0,), (1, 1, 0, 0, 0)),
        (4, (1.0,), (1, 0, 0, 0, 0)),
        (5, (1.0,), (0, 0, 0, 0, 0)),
        (99, (1.0,), (0, 0, 0, 0, 0)),
        (-1, (1.0, 1.0), (0, 0, 0, 1, 1)),
        (-1, (3.0, 1.0), (0, 0, 0, 0, 1)),
        (-1, (0.0, 1.0), (1, 1, 1, 1, 1)),
        (-1, (1.0, 0.0), (0, 0, 0, 0, 0)),
        (-1, (1.0, 1.0, 1.0), (0, 0, 1, 1, 2)),
        (2, (1.0, 1.0), (2, 2, 2, 0, 1)),
    ],
)
def test_layers_go_to_devices_by_their_shares(
    gpu_layers: int, shares: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    """Four layers and the output; the last number is the host (llama-model.cpp, `load_tensors`)."""
    assert place_layers(4, gpu_layers, shares) == expected


@given(st.integers(1, 130), st.integers(-1, 140), st.lists(st.floats(0.5, 1e12), max_size=4).map(tuple))
def test_every_layer_has_one_device(layers: int, gpu_layers: int, shares: tuple[float, ...]) -> None:
    """One each, GPUs in their order after the host's layers, so many on GPUs as asked for."""
    placed = place_layers(layers, gpu_layers, shares)
    host = len(shares)
    assert len(placed) == layers + 1
    on_gpus = [device for device in placed if device != host]
    wanted = layers + 1 if gpu_layers == -1 else min(gpu_layers, layers + 1)
    assert len(on_gpus) == (wanted if shares else 0)
    assert on_gpus == sorted(on_gpus)
    assert placed == (host,) * (layers + 1 - len(on_gpus)) + tuple(on_gpus)


def tensors_bytes(model: Hyperparameters) -> int:
    """All tensors, each aligned to 32 bytes."""
    return sum(-(-tensor.size_bytes // 32) * 32 for tensor in model.tensors.values())


def test_the_cpu_alone_holds_every_tensor_once() -> None:
    """Also an output that is tied to the embedding, unless the CPU keeps it in another order."""
    model = read_hyperparameters(known_shape("qwen2.5-0.5b", "Q8_0"))
    devices = place_layers(model.layers, 0, ())
    assert weight_bytes(model, devices, [CPU_RULES], NONE) == [tensors_bytes(model)]
    embedding = model.tensors["token_embd.weight"]
    again = weight_bytes(model, devices, [CPU_RULES], frozenset({embedding.type}))
    assert again == [tensors_bytes(model) + embedding.size_bytes]


def test_a_gpu_has_its_layers_and_a_copy_of_a_tied_output() -> None:
    """The embedding itself stays on the host, where rows are looked up."""
    model = read_hyperparameters(shape_of(replace(TINY, tied=True)))
    embedding = model.tensors["token_embd.weight"].size_bytes
    rules = [RULES["metal"], CPU_RULES]
    gpu, host = weight_bytes(model, place_layers(model.layers, -1, (1.0,)), rules, NONE)
    assert host == embedding
    assert gpu == tensors_bytes(model)


def test_layers_move_with_their_tensors() -> None:
    """What leaves the host arrives at the GPU."""
    model = read_hyperparameters(shape_of(TINY))
    rules = [RULES["metal"], CPU_RULES]
    for gpu_layers in range(5):
        held = weight_bytes(model, place_layers(model.layers, gpu_layers, (1.0,)), rules, NONE)
        assert sum(held) == tensors_bytes(model)


def test_cuda_pads_rows_of_quantized_tensors() -> None:
    """To 512 numbers at the end of a tensor: rows of 128 in Q8_0 miss 384, which are 408 bytes."""
    shape = retensored(shape_of(TINY), Tensor("blk.0.ffn_up.weight", (128, 256), 8, 0))
    plain = read_hyperparameters(shape)
    rules = [RULES["cuda"], CPU_RULES]
    everything = place_layers(3, -1, (1.0,))
    before = weight_bytes(read_hyperparameters(shape_of(TINY)), everything, rules, NONE)[0]
    after = weight_bytes(plain, everything, rules, NONE)[0]
    q8, f16 = TENSOR_TYPES[8].row_bytes(128 * 256), 2 * 128 * 256
    assert after - before == -(-(q8 + 408) // 128) * 128 - f16
