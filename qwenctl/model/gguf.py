"""The header of a GGUF file: metadata and tensor table, read from a stream, never the tensors.

    magic "GGUF" · version u32 · tensor count u64 · metadata count u64
    metadata: key (string) · type u32 · value                    string = length u64 · bytes
    tensors:  name (string) · dimensions u32 · sizes u64 … · type u32 · offset u64
    padding to `general.alignment`, then the tensors

What llama.cpp's reader refuses is refused here too, before gigabytes are fetched for it:

    version 1    had 32-bit counts, in August 2023
    big-endian   files for mainframes have the same magic and the version's bytes reversed; llama.cpp on
                 every machine that we support stops at them
    nested       arrays of arrays: the specification has them, no file does
    offsets      each tensor begins where the one before it ends, padded: no gaps, no overlaps

Every count and length is bounded before anything is allocated: a hostile header costs seconds and some
times `KEPT_BYTES` of memory, no more.

Source: ggml, docs/gguf.md and src/gguf.cpp (`gguf_init_from_reader`), versions 2 and 3, which differ only
in that version 3 may be big-endian.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Final

from qwenctl.errors import Malformed
from qwenctl.model.bounded import BoundedReader, Stream
from qwenctl.model.quantization import TENSOR_TYPES

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)

METADATA_LIMIT: Final = 4096  # keys; real files have about 40
TENSOR_LIMIT: Final = 65_536  # tensors; the largest real models have some thousands
KEY_LIMIT: Final = 1024  # bytes; the specification permits 65,535, real ones have 50
NAME_LIMIT: Final = 63  # bytes of a tensor's name: GGML_MAX_NAME with its closing zero
TEXT_LIMIT: Final = 32 * 1024 * 1024  # bytes; some files carry a whole tokenizer.json, of 20 MiB
ARRAY_LIMIT: Final = 4_000_000  # elements; vocabularies reach 300,000 tokens and 600,000 merges
HEADER_LIMIT: Final = 64 * 1024 * 1024  # bytes in all; Qwen2.5 has 6 MB, the largest vocabularies 16 MB
ALIGNMENT_LIMIT: Final = 1 << 20  # bytes; real files have 32

KEPT_ELEMENTS: Final = 1024
"""Arrays up to this length are kept; of longer ones (vocabularies) only type and length."""
KEPT_BYTES: Final = 4 * 1024 * 1024
"""Bytes of values that are kept of one header; templates and licences have some 100 KiB."""

_ELEMENT_BYTES: Final = 32  # what a number in a tuple costs
_DIMENSIONS: Final = 4  # GGML_MAX_DIMS
_SIZE_LIMIT: Final = (1 << 63) - 1  # elements and bytes, as ggml counts in int64
_DEFAULT_ALIGNMENT: Final = 32  # GGUF_DEFAULT_ALIGNMENT
_SHOWN: Final = 80  # characters of a name in a message

_LOOKALIKES: Final[Mapping[bytes, str]] = {
    b"pk\x03\x04": "a zip archive, such as a PyTorch checkpoint",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"<": "a web page",
    b"{": "a JSON document",
    b"fugg": "a GGUF file with its bytes swapped",
    b"version https": "a Git LFS pointer, not the file itself",
    b"lmgg": "a file of the time before GGUF (GGML)",
    b"fmgg": "a file of the time before GGUF (GGMF)",
    b"tjgg": "a file of the time before GGUF (GGJT)",
}


class ValueType(IntEnum):
    """The types of metadata values."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_FORMATS: Final[Mapping[ValueType, str]] = {
    ValueType.UINT8: "B",
    ValueType.INT8: "b",
    ValueType.UINT16: "H",
    ValueType.INT16: "h",
    ValueType.UINT32: "I",
    ValueType.INT32: "i",
    ValueType.FLOAT32: "f",
    ValueType.BOOL: "B",
    ValueType.UINT64: "Q",
    ValueType.INT64: "q",
    ValueType.FLOAT64: "d",
}

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Array:
    """An array value: its element type, its length, and its elements unless they are too many.

    A text that is too long to be kept is an array of bytes.
    """

    type: ValueType
    length: int
    elements: tuple[Scalar, ...] | None


Value = Scalar | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """One row of the tensor table. `offset` counts from the start of the tensor section.

    `dimensions` begin with the length of a row, as ggml writes them.
    """

    name: str
    dimensions: tuple[int, ...]
    type: int
    offset: int

    @property
    def elements(self) -> int:
        """The product of the dimensions; 1 without any."""
        return prod(self.dimensions)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor in the file, without padding."""
        return TENSOR_TYPES[self.type].row_bytes(self.elements)


@dataclass(frozen=True, slots=True)
class Header:
    """All that stands before the tensors. `size_bytes` is where the tensor section begins."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    alignment: int
    size_bytes: int

    @property
    def file_bytes(self) -> int:
        """The length that a file with this header must have at the least."""
        ends = (tensor.offset + tensor.size_bytes for tensor in self.tensors)
        return self.size_bytes + max(ends, default=0)


@dataclass(frozen=True, slots=True)
class Front:
    """A header as far as its first long array, in most files the vocabulary.

    That array is the last of the `metadata`, with its type and length; its elements begin at byte
    `size_bytes`. In a header without a long array that is where the tensor table begins.
    """

    version: int
    tensor_count: int
    metadata: Mapping[str, Value]
    size_bytes: int


def read_header(stream: Stream) -> Header:
    """The header at the front of `stream`; reads it and nothing behind it, not even its padding.

    Raises: Malformed, saying what is wrong and, for another kind of file, what it seems to be.
    """
    reader = BoundedReader(stream, HEADER_LIMIT)
    version, tensor_count, metadata_count = _read_counts(reader)
    metadata = _read_metadata(_Values(reader), metadata_count)
    alignment = read_alignment(metadata)
    tensors = _read_tensors(reader, tensor_count, alignment)
    return Header(version, metadata, tensors, alignment, padded(reader.position, alignment))


def read_front(stream: Stream) -> Front:
    """What stands before the first long array. Raises: Malformed, also when the stream ends before that."""
    reader = BoundedReader(stream, HEADER_LIMIT)
    version, tensor_count, metadata_count = _read_counts(reader)
    metadata = _read_metadata(_Values(reader, stopping=True), metadata_count)
    return Front(version, tensor_count, metadata, reader.position)


def read_tensor_table(stream: Stream, count: int, alignment: int) -> tuple[tuple[Tensor, ...], int]:
    """The tensor table alone, which begins where `stream` does, and its length in bytes.

    It is checked as a part of a header is, so each tensor follows the one before it. Raises: Malformed.
    """
    reader = BoundedReader(stream, HEADER_LIMIT)
    return _read_tensors(reader, count, alignment), reader.position


def _read_counts(reader: BoundedReader) -> tuple[int, int, int]:
    """Version, number of tensors, number of metadata keys."""
    _check_magic(reader)
    _check_version(version := reader.integer(4))
    tensor_count = reader.count(TENSOR_LIMIT, "tensors")
    return version, tensor_count, reader.count(METADATA_LIMIT, "metadata keys")


def _check_magic(reader: BoundedReader) -> None:
    magic = reader.take(4)
    if magic == MAGIC:
        return
    front = magic + reader.some(12)
    plain = front.lower().lstrip()
    kind = next((name for start, name in _LOOKALIKES.items() if plain.startswith(start)), None)
    if front[8:9] == b"{":  # safetensors: the length of a JSON object in 64 bits, then the object
        kind = "a safetensors file"
    seems = f"; it seems to be {kind}" if kind else ""
    raise Malformed(f"this is not a GGUF file{seems}", hint="a GGUF file begins with the letters GGUF")


def _check_version(version: int) -> None:
    if version in VERSIONS:
        return
    if version == 1:
        raise Malformed("GGUF version 1 is no longer read by llama.cpp", hint="convert the model again")
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        raise Malformed(
            "this GGUF file is big-endian; llama.cpp reads it on big-endian machines only",
            hint="get the little-endian file of the same model",
        )
    raise Malformed(f"GGUF version {version} is not known; versions 2 and 3 are")


class _Values:
    """Reads values, and keeps no more than `KEPT_BYTES` of them; `stopping` before the first long array."""

    def __init__(self, reader: BoundedReader, *, stopping: bool = False) -> None:
        self.reader = reader
        self.stopped = False
        self._stopping = stopping
        self._room = KEPT_BYTES

    def read(self, key: str) -> Value:
        """The type and the value of `key`."""
        kind = self._type(key)
        if kind is ValueType.ARRAY:
            return self._array(key)
        return self._text(key) if kind is ValueType.STRING else self._number(kind, key)

    def _type(self, key: str) -> ValueType:
        number = self.reader.integer(4)
        try:
            return ValueType(number)
        except ValueError as error:
            raise Malformed(f"GGUF metadata `{key}` has the unknown type {number}") from error

    def _array(self, key: str) -> Array:
        kind = self._type(key)
        if kind is ValueType.ARRAY:
            raise Malformed(f"GGUF metadata `{key}` is an array of arrays")
        length = self.reader.count(ARRAY_LIMIT, f"elements of `{key}`")
        if length <= KEPT_ELEMENTS and self._keep(length * _ELEMENT_BYTES):
            return self._short(kind, length, key)
        self.stopped = self._stopping
        if self.stopped:
            return Array(kind, length, None)
        if kind is ValueType.STRING:
            self.reader.skip_texts(length, TEXT_LIMIT, f"`{key}`")
        else:
            self.reader.skip(length * struct.calcsize(_FORMATS[kind]))
        return Array(kind, length, None)

    def _short(self, kind: ValueType, length: int, key: str) -> Array:
        """All elements are read in any case; if one of them is too long, none is kept."""
        if kind is not ValueType.STRING:
            return Array(kind, length, tuple(self._number(kind, key) for _ in range(length)))
        texts = [self._text(key) for _ in range(length)]
        kept = tuple(text for text in texts if isinstance(text, str))
        return Array(kind, length, kept if len(kept) == length else None)

    def _text(self, key: str) -> str | Array:
        """Bytes that are no UTF-8 become U+FFFD: tokens may be single bytes."""
        length = self.reader.count(TEXT_LIMIT, f"bytes of `{key}`")
        if self._keep(length):
            return self.reader.take(length).decode("utf-8", errors="replace")
        self.reader.skip(length)
        return Array(ValueType.UINT8, length, None)

    def _number(self, kind: ValueType, key: str) -> int | float | bool:
        layout = f"<{_FORMATS[kind]}"
        number: int | float = struct.unpack(layout, self.reader.take(struct.calcsize(layout)))[0]
        if kind is not ValueType.BOOL:
            return number
        if number not in (0, 1):
            raise Malformed(f"GGUF metadata `{key}` is {number}, neither true nor false")
        return bool(number)

    def _keep(self, size: int) -> bool:
        if size > self._room:
            return False
        self._room -= size
        return True


def _read_metadata(values: _Values, count: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    while len(metadata) < count and not values.stopped:
        key = _name(values.reader.text(KEY_LIMIT, "a key"), "metadata key")
        if key in metadata:
            raise Malformed(f"GGUF metadata `{key[:_SHOWN]}` is there twice")
        metadata[key] = values.read(key[:_SHOWN])
    return metadata


def read_alignment(metadata: Mapping[str, Value]) -> int:
    """`general.alignment` in bytes, 32 unless the file has another. Raises: Malformed."""
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if isinstance(alignment, bool) or not isinstance(alignment, int):
        raise Malformed("GGUF header has an alignment that is no whole number")
    if not 0 < alignment <= ALIGNMENT_LIMIT or alignment & (alignment - 1):
        raise Malformed(f"GGUF header has the alignment {alignment}, which is no power of two in reach")
    return alignment


def _read_tensors(reader: BoundedReader, count: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    end = 0
    for _ in range(count):
        tensor = _read_tensor(reader)
        if tensor.name in tensors:
            raise Malformed(f"GGUF tensor `{tensor.name}` is there twice")
        if tensor.offset != end:
            raise Malformed(f"GGUF tensor `{tensor.name}` is at {tensor.offset}, where {end} is expected")
        end = padded(end + tensor.size_bytes, alignment)
        if end > _SIZE_LIMIT:
            raise Malformed(f"GGUF tensor `{tensor.name}` ends impossibly far out")
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _read_tensor(reader: BoundedReader) -> Tensor:
    name = _name(reader.text(NAME_LIMIT, "a tensor's name"), "tensor name")
    rank = reader.integer(4)
    if rank > _DIMENSIONS:
        raise Malformed(f"GGUF tensor `{name}` has {rank} dimensions, more than {_DIMENSIONS}")
    dimensions = tuple(reader.integer(8) for _ in range(rank))
    if max(dimensions, default=0) > _SIZE_LIMIT or prod(dimensions) > _SIZE_LIMIT:
        raise Malformed(f"GGUF tensor `{name}` has impossible dimensions {dimensions}")
    kind = reader.integer(4)
    if kind not in TENSOR_TYPES:
        raise Malformed(f"GGUF tensor `{name}` has the unknown type {kind}", hint="upgrade qwenctl")
    block = TENSOR_TYPES[kind].block_elements
    if (dimensions[0] if dimensions else 1) % block:
        raise Malformed(f"GGUF tensor `{name}` has rows that are not whole blocks of {block}")
    return Tensor(name, dimensions, kind, reader.integer(8))


def _name(raw: bytes, what: str) -> str:
    """A key or a tensor's name: printable ASCII, as it comes into messages and comparisons."""
    text = raw.decode("utf-8", errors="replace")
    if not text or not text.isascii() or not text.isprintable():
        raise Malformed(f"GGUF {what} {text[:_SHOWN]!r} is empty or has characters beyond printable ASCII")
    return text


def padded(length: int, alignment: int) -> int:
    """`length`, or what is more to a multiple of `alignment`."""
    return -(-length // alignment) * alignment
