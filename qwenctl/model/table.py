"""Where a file's tensor table lies, told from the front of its header, and the proof that it lies there.

    front: counts, scalars · vocabulary, some MB · last scalars · tensor table · tensors
    ^ read first                                       ^ the window  ^ the data offset

Two predictions, so that a program can read both ends of a header and leave the vocabulary out:

    by types      the quantizer's mix gives the size of all tensors, and the file's size the rest: exact, for
                  files that llama.cpp quantized by its own rules
    by tokenizer  the vocabularies of a family have the same length in every file, and so the table lies
                  nearly at the same place whatever the tensors' types are

Neither is believed. A table is taken only when it has as many tensors as the front announces, each begins
where the one before ends, and table and tensors end exactly where the file does.

Source: ggml docs/gguf.md for the order of the parts; `mix` for the types. The vocabularies' lengths are those
of models/ggml-vocab-qwen2.gguf and ggml-vocab-llama-bpe.gguf in llama.cpp 0c1e5709, and for Gemma what the
sizes of published files leave for them.
"""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from qwenctl.errors import Malformed
from qwenctl.model.gguf import HEADER_LIMIT, Front, Header, padded, read_alignment, read_tensor_table
from qwenctl.model.mix import MATRIX_MATTERS, PREDICTED, padded_bytes, predict_tensors
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import FILE_TYPES

FRONT_BYTES: Final = 64 * 1024
"""What is read of the front: real files have their scalars in 2 KB, with some licences in 30 KB."""
WINDOW_BYTES: Final = 192 * 1024
"""What is read at the most around the table; 72B models have a table of 60 KB."""

_TOKENS: Final = "tokenizer.ggml.tokens"
_LAST_SCALARS: Final = 4096  # bytes between vocabulary and table: templates have 2 to 5 KB
_NEAR: Final = 64 * 1024  # bytes by which an exact prediction may miss the tokenizer's, for long templates
_MARGIN: Final = 16 * 1024  # bytes read before a table whose end is known: its names may be longer
_ROW_BYTES: Final = 24  # of a tensor's row: lengths, type, offset; its name and dimensions come on top
_TRIES: Final = 8  # beginnings of a table that are tried; a real file has one
_BEGINNING: Final = re.compile(rb"(?=([\x01-\x3f])\x00{7}[!-~])")


@dataclass(frozen=True, slots=True)
class Family:
    """A vocabulary of `count` tokens in bytes: its texts, what each further token adds, numbers, merges."""

    count: int
    tokens_bytes: int
    added_bytes: int
    number_bytes: int
    merges_bytes: int

    def elements_bytes(self, count: int) -> int:
        """Bytes of all elements of the arrays, for a vocabulary of `count` tokens."""
        added = self.added_bytes * (count - self.count)
        return self.tokens_bytes + added + self.number_bytes * count + self.merges_bytes


_FAMILIES: Final[Mapping[tuple[str, str], tuple[Family, ...]]] = {
    ("gpt2", "qwen2"): (Family(151_936, 2_588_196, 19, 4, 2_731_548),),
    ("gpt2", "llama-bpe"): (Family(128_256, 2_099_493, 24, 4, 5_204_765),),
    ("llama", "default"): (
        Family(262_144, 4_413_447, 20, 8, 0),
        Family(256_000, 3_979_100, 20, 8, 0),
    ),
}
"""By `tokenizer.ggml.model` and `tokenizer.ggml.pre`."""
_FAMILY_TOKENS: Final = 1024  # tokens more or fewer that a model of the family may have


@dataclass(frozen=True, slots=True)
class Window:
    """Bytes of a file in which its tensor table should lie whole."""

    offset: int
    length: int


def predict_window(front: Front, file_bytes: int, quantization: str | None = None) -> Window | None:
    """Where to look for the table of a file of `file_bytes`; None when that cannot be told.

    `quantization` is somebody's word for a file whose front does not say it: the quantizer writes
    `general.file_type` behind the vocabulary. At most `WINDOW_BYTES` long.
    """
    outline = Outline.of(front.metadata)
    variants = outline.variants(front.tensor_count) if outline else ()
    if outline is None or not variants:
        return None
    table = max(_table_bytes(variant) for variant in variants)
    expected = _by_tokenizer(front, outline.vocabulary_size, table)
    ends = _by_types(front, file_bytes, variants, quantization)
    likely = (end for end in ends if expected is None or abs(end - expected) <= _NEAR)
    end = next(likely, None)
    if end is not None:
        return _ending_at(end, table + _MARGIN, file_bytes)
    if expected is not None:
        return _ending_at(expected + (WINDOW_BYTES - table) // 2, WINDOW_BYTES, file_bytes)
    return None


def find_header(window: bytes, offset: int, front: Front, file_bytes: int) -> Header | None:
    """The header whose table lies in `window`, the file's bytes from `offset` on; None without the proof.

    Of the metadata it has those in front of the vocabulary, and the vocabulary's length.
    Raises: Malformed for an alignment that cannot be.
    """
    alignment = read_alignment(front.metadata)
    for tries, start in enumerate(_beginnings(window)):
        if tries == _TRIES:
            return None
        stream = BytesIO(window)
        stream.seek(start)
        try:
            tensors, length = read_tensor_table(stream, front.tensor_count, alignment)
        except Malformed:
            continue
        data_offset = padded(offset + start + length, alignment)
        if data_offset + padded_bytes(tensors, alignment) == file_bytes:
            return Header(front.version, front.metadata, tensors, alignment, data_offset)
    return None


def _by_tokenizer(front: Front, count: int, table: int) -> int | None:
    """About where the header ends, by the length of the family's vocabulary of `count` tokens."""
    metadata = front.metadata
    if tuple(metadata)[-1] != _TOKENS:
        return None
    names = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    for family in _FAMILIES.get((str(names[0]), str(names[1])), ()):
        if abs(count - family.count) <= _FAMILY_TOKENS:
            return front.size_bytes + family.elements_bytes(count) + _LAST_SCALARS + table
    return None


def _by_types(
    front: Front, file_bytes: int, variants: tuple[Outline, ...], quantization: str | None
) -> Iterator[int]:
    """Where the tensors begin, for each mix that leaves room for a header before them; likely ones first."""
    least = front.size_bytes + 8 * variants[0].vocabulary_size  # each token has at least its length
    stated = front.metadata.get("general.file_type")
    hinted = next((number for number, name in FILE_TYPES.items() if name == quantization), None)
    likely = sorted(PREDICTED, key=lambda number: (number != stated, number != hinted))
    for file_type in likely:
        for variant in variants:
            for matrix in (False, True) if file_type in MATRIX_MATTERS else (False,):
                tensors = predict_tensors(variant, file_type, importance=matrix) or ()
                end = file_bytes - padded_bytes(tensors)
                if least + _table_bytes(variant) <= end <= HEADER_LIMIT:
                    yield end


def _ending_at(end: int, length: int, file_bytes: int) -> Window:
    end = min(end, file_bytes)
    offset = max(0, end - min(length, WINDOW_BYTES))
    return Window(offset, end - offset)


def _table_bytes(outline: Outline) -> int:
    rows = (len(name) + 8 * len(dimensions) for name, dimensions in outline.slots())
    return sum(rows) + _ROW_BYTES * outline.tensor_count


def _beginnings(window: bytes) -> Iterator[int]:
    """Places where a row of a table may begin whose tensor is the first: its offset is 0."""
    for match in _BEGINNING.finditer(window):
        behind = match.start() + 8 + match[1][0]
        if behind + 4 > len(window):
            return
        rank = int.from_bytes(window[behind : behind + 4], "little")
        place = behind + 4 + 8 * rank + 4
        if rank <= 4 and place + 8 <= len(window) and struct.unpack_from("<Q", window, place) == (0,):
            yield match.start()
