"""What the graph of a model depends on, read from its header."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qwenctl.model.gguf import Array, Tensor
from qwenctl.model.shape import Shape


class Unknown(Exception):
    """The memory of this model cannot be told; `message` is the reason.

    No error of the program: who asks has a verdict for it, `unknown`, and lets the model be tried.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The numbers of a model, under llama.cpp's names in words. Lengths are in elements.

    `window_pattern` tells for each layer whether its attention is a sliding window of `window` tokens.
    """

    architecture: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    vocabulary: int
    experts: int
    experts_used: int
    window: int
    window_pattern: tuple[bool, ...]
    attention_softcap: bool
    logit_softcap: bool
    tensors: Mapping[str, Tensor]

    @property
    def key_row(self) -> int:
        """Elements that one position of a layer has in the K cache."""
        return self.key_length * self.kv_heads

    @property
    def value_row(self) -> int:
        """Elements that one position of a layer has in the V cache."""
        return self.value_length * self.kv_heads


MAX_LAYERS: Final = 512
"""Source: llama.cpp src/llama-hparams.h, LLAMA_MAX_LAYERS."""
_MAX_WIDTH: Final = 1 << 20
_MAX_HEADS: Final = 1 << 16
_MAX_EXPERTS: Final = 1024  # LLAMA_MAX_EXPERTS
_MAX_EXPERTS_USED: Final = 64  # the graph has a node for each in every layer; models use up to 10

# Every n-th layer sees everything, the others a window. Source: src/models/gemma2.cpp, gemma3.cpp.
_WINDOW_PERIODS = {"gemma2": 2, "gemma3": 6}
_SOFTCAPS = {"gemma2"}


def read_hyperparameters(shape: Shape) -> Hyperparameters:
    """The numbers in a header. Raises: Unknown when one is missing, or differs from layer to layer."""
    layers = _needed(shape, "block_count", MAX_LAYERS)
    width = _needed(shape, "embedding_length", _MAX_WIDTH)
    heads = _uniform("attention.head_count", shape.head_count)
    kv_heads = _uniform("attention.head_count_kv", shape.head_count_kv)
    head = width // heads
    window = shape.number("attention.sliding_window") or 0
    experts = _bounded(shape, "expert_count", 0, 0, _MAX_EXPERTS)
    tensors = {tensor.name: tensor for tensor in shape.tensors}
    embedding = tensors.get("token_embd.weight")
    if embedding is None or len(embedding.dimensions) != 2:
        raise Unknown("the file has no `token_embd.weight`")
    return Hyperparameters(
        architecture=shape.architecture,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        key_length=_bounded(shape, "attention.key_length", head, 1, _MAX_WIDTH),
        value_length=_bounded(shape, "attention.value_length", head, 1, _MAX_WIDTH),
        vocabulary=embedding.dimensions[1],
        experts=experts,
        experts_used=_bounded(
            shape, "expert_used_count", 0, min(1, experts), min(experts, _MAX_EXPERTS_USED)
        ),
        window=window,
        window_pattern=_windows(shape, layers) if window else (False,) * layers,
        attention_softcap=shape.architecture in _SOFTCAPS,
        logit_softcap=bool(shape.header.metadata.get(f"{shape.architecture}.final_logit_softcapping"))
        or shape.architecture in _SOFTCAPS,
        tensors=tensors,
    )


def _windows(shape: Shape, layers: int) -> tuple[bool, ...]:
    pattern = shape.header.metadata.get(f"{shape.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, Array) and pattern.elements is not None and pattern.length >= layers:
        return tuple(bool(element) for element in pattern.elements[:layers])
    period = pattern if isinstance(pattern, int) else _WINDOW_PERIODS.get(shape.architecture)
    if not period:
        return (False,) * layers
    return tuple(index % period < period - 1 for index in range(layers))


def _needed(shape: Shape, key: str, most: int) -> int:
    return _bounded(shape, key, 0, 1, most)


def _bounded(shape: Shape, key: str, default: int, least: int, most: int) -> int:
    value = shape.number(key)
    value = default if value is None else value
    if not least <= value <= most:
        raise Unknown(f"the header has no usable `{shape.architecture}.{key}`")
    return value


def _uniform(key: str, values: tuple[int, ...]) -> int:
    if not values or not 0 < values[0] <= _MAX_HEADS:
        raise Unknown(f"the header has no usable `{key}`")
    if len(set(values)) > 1:
        raise Unknown(f"`{key}` differs from layer to layer")
    return values[0]
