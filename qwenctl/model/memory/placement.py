"""Which layer goes to which device, and what weights and cache take there.

Source: llama.cpp src/llama-model.cpp, `load_tensors`; src/llama-kv-cache.cpp, the constructor.
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from qwenctl.model.gguf import Tensor
from qwenctl.model.memory.backends import Rules
from qwenctl.model.memory.configuration import ALL_LAYERS
from qwenctl.model.memory.graph import Setting
from qwenctl.model.memory.hyperparameters import Hyperparameters
from qwenctl.model.quantization import TENSOR_TYPES

_BLOCK: Final = re.compile(r"blk\.([0-9]+)\.")
_EMBEDDING: Final = "token_embd.weight"
_OUTPUT: Final = "output.weight"
_ROPE_FACTORS: Final = "rope_freqs.weight"


def place_layers(layers: int, gpu_layers: int, shares: Sequence[float]) -> tuple[int, ...]:
    """The backend of each layer and, last, of the output; the host is `len(shares)`.

    The output counts as a layer and goes to a GPU first, then the layers from the last to the first.
    Shares and positions are compared as 32-bit floats, as llama.cpp does.
    """
    host = len(shares)
    wanted = layers + 1 if gpu_layers == ALL_LAYERS else min(gpu_layers, layers + 1)
    on_gpu = wanted if host else 0
    if not on_gpu:
        return (host,) * (layers + 1)
    bounds = _bounds(shares)
    first = layers + 1 - on_gpu
    gpus = [min(bisect_right(bounds, _f32(index / on_gpu)), host - 1) for index in range(on_gpu)]
    return (host,) * first + tuple(gpus)


def weight_bytes(
    model: Hyperparameters, devices: Sequence[int], rules: Sequence[Rules], repacked: frozenset[int]
) -> list[int]:
    """Bytes of the weights on each backend.

    An output that is tied to the embedding has a copy on its GPU, and on the host where the CPU repacks
    its type; so have the factors of rotary positions, one on each backend with layers.
    """
    host = len(rules) - 1
    held = [0] * len(rules)
    for tensor in model.tensors.values():
        for backend in _homes(tensor.name, devices, host):
            held[backend] += _bytes(tensor, rules[backend])
    if _OUTPUT not in model.tensors:
        embedding, backend = model.tensors[_EMBEDDING], devices[-1]
        alone = host == 0 and embedding.type in repacked and embedding.dimensions[1] % 8 == 0
        if backend != host or alone:
            held[backend] += _bytes(embedding, rules[backend])
    return held


def cache_bytes(model: Hyperparameters, setting: Setting, rules: Sequence[Rules]) -> list[int]:
    """Bytes of the KV cache on each backend."""
    held = [0] * len(rules)
    kind = TENSOR_TYPES[setting.cache_type]
    streams = setting.sizes.streams
    for layer, windowed in enumerate(model.window_pattern):
        backend = setting.devices[layer]
        cells = setting.window_cells if windowed else setting.sizes.cells
        for row in (model.key_row, model.value_row):
            size = kind.row_bytes(row) * cells * streams
            held[backend] += rules[backend].weight_bytes(setting.cache_type, row, size)
    return held


def _homes(name: str, devices: Sequence[int], host: int) -> Sequence[int]:
    if name == _EMBEDDING:
        return (host,)
    if name == _ROPE_FACTORS:
        return sorted(set(devices[:-1]))
    block = _BLOCK.match(name)
    return (devices[int(block[1])] if block and int(block[1]) < len(devices) else devices[-1],)


def _bytes(tensor: Tensor, rules: Rules) -> int:
    return rules.weight_bytes(tensor.type, tensor.dimensions[0], tensor.size_bytes)


def _bounds(shares: Sequence[float]) -> list[float]:
    total, bounds = 0.0, []
    for share in shares:
        total = _f32(total + _f32(share))
        bounds.append(total)
    return [_f32(bound / total) for bound in bounds]


def _f32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
