"""A GGUF file reduced to what llama.cpp sizes its memory by: the architecture's numbers and the tensor table.

No tokenizer, no texts, no weights: a few ten kilobytes stand for any model, also one that is not here. As
long as nothing is allocated, llama.cpp asks for no more.

Source: ggml docs/gguf.md; llama.cpp src/llama-vocab.cpp, tokenizer model `none`, which takes the size of the
vocabulary from `<architecture>.vocab_size`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from qwenctl.model.gguf import MAGIC, Array, Scalar, Value, ValueType
from qwenctl.model.shape import Shape

_VERSION: Final = 3
_ALIGNMENT: Final = 32
_TEXT_LIMIT: Final = 1024  # characters; longer texts are templates and licences
_UINT32: Final = (1 << 32) - 1
_ROWS_OF_TYPES: Final = "tokenizer.ggml.token_type_count"  # rows of BERT's `token_types.weight`


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The header, and the length that the file must have; what lies between may be a hole."""

    header: bytes
    file_bytes: int


def make_skeleton(shape: Shape) -> Skeleton:
    """The skeleton of a model whose header is known, in one file even if the model has several."""
    pairs = [*_metadata(shape)]
    table, data_bytes = _tensor_table(shape)
    head = MAGIC + struct.pack("<IQQ", _VERSION, len(shape.tensors), len(pairs))
    header = head + b"".join(_text(key) + value for key, value in pairs) + table
    header += bytes(-len(header) % _ALIGNMENT)
    return Skeleton(header, len(header) + data_bytes)


def _metadata(shape: Shape) -> Iterator[tuple[str, bytes]]:
    own = f"{shape.architecture}."
    size_key = f"{own}vocab_size"
    yield "general.architecture", _scalar(shape.architecture)
    for key, value in shape.header.metadata.items():
        wanted = (key.startswith(own) and key != size_key) or key == _ROWS_OF_TYPES
        encoded = _value(value) if wanted else None
        if encoded is not None:
            yield key, encoded
    yield size_key, _scalar(_vocabulary_size(shape))
    yield "tokenizer.ggml.model", _scalar("none")


def _vocabulary_size(shape: Shape) -> int:
    """The rows of the embedding, which llama.cpp demands to be the tokens."""
    embedding = next((item for item in shape.tensors if item.name == "token_embd.weight"), None)
    return embedding.dimensions[-1] if embedding and embedding.dimensions else shape.vocabulary_size or 0


def _tensor_table(shape: Shape) -> tuple[bytes, int]:
    rows, offset = [], 0
    for tensor in shape.tensors:
        rank = len(tensor.dimensions)
        layout = struct.pack(f"<I{rank}QIQ", rank, *tensor.dimensions, tensor.type, offset)
        rows.append(_text(tensor.name) + layout)
        offset += -(-tensor.size_bytes // _ALIGNMENT) * _ALIGNMENT
    return b"".join(rows), offset


def _value(value: Value) -> bytes | None:
    """A value with its type; None for what is too long to matter."""
    if not isinstance(value, Array):
        return None if isinstance(value, str) and len(value) > _TEXT_LIMIT else _scalar(value)
    if value.elements is None:
        return None
    kind = ValueType.INT32 if value.type in _INTEGERS else value.type
    front = struct.pack("<IIQ", ValueType.ARRAY, kind, value.length)
    return front + b"".join(_element(kind, element) for element in value.elements)


_INTEGERS: Final = frozenset(
    {ValueType.UINT8, ValueType.INT8, ValueType.UINT16, ValueType.INT16, ValueType.UINT32, ValueType.INT32}
)


def _scalar(value: Scalar) -> bytes:
    """A single value in the type that llama.cpp reads it as: whole numbers in 32 bits, fractions too."""
    kind = _kind(value)
    return struct.pack("<I", kind) + _element(kind, value)


def _kind(value: Scalar) -> ValueType:
    if isinstance(value, bool):
        return ValueType.BOOL
    if isinstance(value, str):
        return ValueType.STRING
    if isinstance(value, float):
        return ValueType.FLOAT32
    if value < 0:
        return ValueType.INT32
    return ValueType.UINT32 if value <= _UINT32 else ValueType.UINT64


_FORMATS: Final = {
    ValueType.BOOL: "<?",
    ValueType.FLOAT32: "<f",
    ValueType.FLOAT64: "<d",
    ValueType.INT32: "<i",
    ValueType.UINT32: "<I",
    ValueType.INT64: "<q",
    ValueType.UINT64: "<Q",
}


def _element(kind: ValueType, value: Scalar) -> bytes:
    return _text(value) if isinstance(value, str) else struct.pack(_FORMATS[kind], value)


def _text(value: str) -> bytes:
    raw = value.encode("utf-8", errors="replace")
    return struct.pack("<Q", len(raw)) + raw
