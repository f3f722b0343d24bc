"""Headers of models as values, for tests of the memory they take: small ones, and well-known ones."""

from collections.abc import Mapping
from dataclasses import replace

from qwenctl.model.gguf import Header, Tensor, Value
from qwenctl.model.host import DEVICE_NAMES, Backend, Gpu
from qwenctl.model.mix import predict_tensors
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import FILE_TYPES
from qwenctl.model.shape import Shape
from tests.shape_models import SHAPES, outline_metadata

GIB = 1 << 30
TINY = Outline("qwen2", 3, 128, 256, 2, 1, 64, 64, 1000, False)
"""Two heads of 64 numbers, three layers."""


def shape_of(
    outline: Outline, quantization: str = "F16", further: Mapping[str, Value] | None = None
) -> Shape:
    """A model with this outline. `further` are keys of its architecture beyond the outline's."""
    file_type = next(number for number, name in FILE_TYPES.items() if name == quantization)
    tensors = predict_tensors(outline, file_type)
    assert tensors is not None, quantization
    own = {"context_length": 131_072, "attention.layer_norm_rms_epsilon": 1e-6, **(further or {})}
    keys = {f"{outline.architecture}.{key}": value for key, value in own.items()}
    return Shape.of(Header(3, outline_metadata(outline) | keys, tensors, 32, 0))


def known_shape(name: str, quantization: str = "Q4_K_M") -> Shape:
    """A well-known model of `tests.shape_models.SHAPES`."""
    known = SHAPES[name]
    further = {key: value for key, value in known.further.items() if isinstance(value, int | float | str)}
    return shape_of(known.outline, quantization, further)


def changed(shape: Shape, metadata: Mapping[str, Value | None]) -> Shape:
    """The same with other metadata; None takes a key away."""
    merged = {**shape.header.metadata, **metadata}
    kept = {key: value for key, value in merged.items() if value is not None}
    return Shape.of(replace(shape.header, metadata=kept))


def retensored(shape: Shape, *tensors: Tensor, without: str = "") -> Shape:
    """The same with these tensors beside or instead of its own, and without the one of this name."""
    named = {tensor.name: tensor for tensor in (*shape.tensors, *tensors) if tensor.name != without}
    return Shape.of(replace(shape.header, tensors=tuple(named.values())))


def gpus(*free_gib: float, backend: Backend = "cuda") -> tuple[Gpu, ...]:
    """GPUs with so much free memory."""
    return tuple(
        Gpu(
            name=f"{DEVICE_NAMES[backend]}{index}",
            backend=backend,
            total_bytes=int(free * GIB),
            free_bytes=int(free * GIB),
        )
        for index, free in enumerate(free_gib)
    )
