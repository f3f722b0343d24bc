"""Small valid GGUF files, and broken ones, from values: a writer that shares no code with the reader.

Source: ggml docs/gguf.md, version 3.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

F32, F16, Q8_0, Q4_K = 0, 1, 8, 12
ARRAY = 9

_LAYOUTS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_BLOCKS = {F32: (1, 4), F16: (1, 2), Q8_0: (32, 34), Q4_K: (256, 144)}


@dataclass(frozen=True)
class Typed:
    """A metadata value with its GGUF type number, where `metadata_value` would choose another."""

    type: int
    value: int | float | bool | str


@dataclass(frozen=True)
class Many:
    """An array value: the type number of its elements, and the elements."""

    type: int
    elements: Sequence[int | float | bool | str]


@dataclass(frozen=True)
class Weights:
    """A tensor: its contents are zeros. `offset` and `length` lie where a test wants them to."""

    name: str
    dimensions: tuple[int, ...] = (8, 2)
    type: int = F32
    offset: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the contents."""
        elements = 1
        for size in self.dimensions:
            elements *= size
        block, length = _BLOCKS[self.type]
        return elements // block * length


Value = int | float | bool | str | Typed | Many | Sequence[str]
Metadata = Mapping[str, Any] | Iterable[tuple[str, Any]]

TINY_METADATA: Mapping[str, Value] = {
    "general.architecture": "qwen2",
    "general.name": "tiny",
    "general.license": "apache-2.0",
    "general.file_type": 1,
    "qwen2.block_count": 1,
    "qwen2.context_length": 128,
    "qwen2.embedding_length": 8,
    "qwen2.attention.head_count": 2,
    "qwen2.attention.head_count_kv": 1,
    "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
    "tokenizer.ggml.tokens": ("a", "b", "c"),
    "tokenizer.chat_template": "{{ messages }}",
}
TINY_TENSORS = (Weights("token_embd.weight", (8, 3), F16), Weights("output_norm.weight", (8,)))


def text(value: str | bytes) -> bytes:
    """A string as GGUF writes it: its length in 64 bits, then its bytes."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: int, value: int | float | bool | str) -> bytes:
    """A scalar of a type number, without the number."""
    return text(str(value)) if kind == 8 else struct.pack("<" + _LAYOUTS[kind], value)


def metadata_value(value: Value) -> bytes:
    """A value with its type number: `bool`, `uint32`, `float32`, string, or an array of them."""
    if isinstance(value, Typed):
        return struct.pack("<I", value.type) + scalar(value.type, value.value)
    if isinstance(value, bool):
        return metadata_value(Typed(7, value))
    if isinstance(value, int):
        return metadata_value(Typed(4, value))
    if isinstance(value, float):
        return metadata_value(Typed(6, value))
    if isinstance(value, str):
        return metadata_value(Typed(8, value))
    many = value if isinstance(value, Many) else Many(8, value)
    front = struct.pack("<IIQ", ARRAY, many.type, len(many.elements))
    return front + b"".join(scalar(many.type, element) for element in many.elements)


def gguf_header(
    metadata: Metadata = TINY_METADATA,
    tensors: Sequence[Weights] = TINY_TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A header with its padding, up to where the contents of the tensors begin.

    `alignment` lays out the tensors; it is not written into the metadata.
    """
    pairs = list(metadata.items() if isinstance(metadata, Mapping) else metadata)
    pieces = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(pairs))]
    pieces += [text(key) + metadata_value(value) for key, value in pairs]
    end = 0
    for tensor in tensors:
        offset = end if tensor.offset is None else tensor.offset
        rank = len(tensor.dimensions)
        layout = struct.pack(f"<I{rank}QIQ", rank, *tensor.dimensions, tensor.type, offset)
        pieces.append(text(tensor.name) + layout)
        if tensor.type in _BLOCKS:
            end = _padded(offset + tensor.size_bytes, alignment)
    raw = b"".join(pieces)
    return raw.ljust(_padded(len(raw), alignment), b"\0")


def gguf_file(
    metadata: Metadata = TINY_METADATA,
    tensors: Sequence[Weights] = TINY_TENSORS,
    *,
    version: int = 3,
    alignment: int = 32,
) -> bytes:
    """A whole file: the header, and zeros for the contents of the tensors."""
    header = gguf_header(metadata, tensors, version=version, alignment=alignment)
    contents = (bytes(_padded(tensor.size_bytes, alignment)) for tensor in tensors)
    return header + b"".join(contents)


def _padded(length: int, alignment: int) -> int:
    return -(-length // alignment) * alignment
