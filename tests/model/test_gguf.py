"""Reading GGUF headers: the layout, what is refused and why, and how little a hostile header costs."""

import struct
import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.model import gguf
from qwenctl.model.gguf import Array, Header, Tensor, ValueType, read_header
from tests.model.gguf_builders import (
    F16,
    F32,
    Q4_K,
    Q8_0,
    TINY_METADATA,
    TINY_TENSORS,
    Many,
    Metadata,
    Typed,
    Value,
    Weights,
    gguf_file,
    gguf_header,
    metadata_value,
    text,
)


class Trickle:
    """A stream that gives at most `step` bytes at a time, and counts them."""

    def __init__(self, raw: bytes, step: int) -> None:
        self._stream = BytesIO(raw)
        self._step = step
        self.given = 0

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes."""
        piece = self._stream.read(min(count, self._step))
        self.given += len(piece)
        return piece


class Hollow:
    """A long stream that takes no memory: bytes, and numbers of zeros."""

    def __init__(self, *pieces: bytes | int) -> None:
        self._pieces = list(pieces)

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes, at most to the end of a piece."""
        piece = self._pieces.pop(0)
        if isinstance(piece, bytes):
            self._pieces.insert(0, piece[count:])
            return piece[:count] or self._next(count)
        taken = min(count, piece)
        self._pieces.insert(0, piece - taken)
        return bytes(taken) or self._next(count)

    def _next(self, count: int) -> bytes:
        del self._pieces[0]
        return self.read(count) if self._pieces else b""


def read(metadata: Metadata = (), tensors: tuple[Weights, ...] = ()) -> Header:
    """The header of a file with these contents."""
    return read_header(BytesIO(gguf_header(metadata, tensors)))


def counts(tensors: int, metadata: int, version: int = 3) -> bytes:
    """The front of a header that announces so many tensors and metadata keys."""
    return b"GGUF" + struct.pack("<IQQ", version, tensors, metadata)


def refused(raw: bytes) -> Malformed:
    """The error that reading `raw` raises."""
    with pytest.raises(Malformed) as caught:
        read_header(BytesIO(raw))
    return caught.value


class TestLayout:
    """docs/gguf.md, "File Structure"."""

    @pytest.mark.parametrize("version", [2, 3])
    def test_both_versions_have_one_layout(self, version: int) -> None:
        """Versions 2 and 3 are read alike."""
        header = read_header(BytesIO(gguf_file(version=version)))
        assert header.version == version
        assert header.metadata["general.architecture"] == "qwen2"
        assert [tensor.name for tensor in header.tensors] == ["token_embd.weight", "output_norm.weight"]

    @pytest.mark.parametrize(
        ("written", "expected"),
        [
            (Typed(0, 255), 255),
            (Typed(1, -128), -128),
            (Typed(2, 65535), 65535),
            (Typed(3, -32768), -32768),
            (Typed(4, 2**32 - 1), 2**32 - 1),
            (Typed(5, -(2**31)), -(2**31)),
            (Typed(6, 0.5), 0.5),
            (Typed(7, True), True),
            (Typed(7, False), False),
            ("ü", "ü"),
            ("", ""),
            (Typed(10, 2**64 - 1), 2**64 - 1),
            (Typed(11, -(2**63)), -(2**63)),
            (Typed(12, 1e300), 1e300),
            (Many(4, (1, 2)), Array(ValueType.UINT32, 2, (1, 2))),
            (Many(7, (True, False)), Array(ValueType.BOOL, 2, (True, False))),
            (("a", "b"), Array(ValueType.STRING, 2, ("a", "b"))),
            (Many(12, ()), Array(ValueType.FLOAT64, 0, ())),
        ],
    )
    def test_every_type_of_value(self, written: Value, expected: gguf.Value) -> None:
        """Each value type comes back as the value that was written, with its Python type."""
        value = read({"key": written}).metadata["key"]
        assert value == expected
        assert type(value) is type(expected)

    def test_text_that_is_no_utf8_is_kept_readable(self) -> None:
        """Vocabularies hold single bytes of characters; they become U+FFFD."""
        raw = counts(0, 1) + text("key") + struct.pack("<I", 8) + text(b"a\xff")
        assert read_header(BytesIO(raw)).metadata["key"] == "a\ufffd"

    def test_tensors_have_sizes_and_places(self) -> None:
        """Dimensions, type and offset are the table's; sizes in bytes follow from the type's blocks."""
        tensors = (Weights("a", (256, 3), Q4_K), Weights("b", (32,), Q8_0), Weights("c", (), F32))
        header = read(tensors=tensors)
        assert header.tensors == (
            Tensor("a", (256, 3), Q4_K, 0),
            Tensor("b", (32,), Q8_0, 448),
            Tensor("c", (), F32, 512),
        )
        assert [tensor.elements for tensor in header.tensors] == [768, 32, 1]
        assert [tensor.size_bytes for tensor in header.tensors] == [432, 34, 4]
        assert header.file_bytes == header.size_bytes + 516

    @pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
    def test_the_alignment_of_the_file_counts(self, alignment: int) -> None:
        """`general.alignment` pads the header and the tensors."""
        metadata = {"general.alignment": alignment}
        header = read_header(BytesIO(gguf_header(metadata, TINY_TENSORS, alignment=alignment)))
        assert header.alignment == alignment
        assert header.size_bytes % alignment == 0
        assert header.tensors[1].offset == -(-48 // alignment) * alignment

    def test_an_empty_header_is_whole(self) -> None:
        """No metadata and no tensors: 24 bytes, padded to 32."""
        header = read()
        assert (header.metadata, header.tensors, header.size_bytes, header.file_bytes) == ({}, (), 32, 32)

    def test_nothing_is_read_behind_the_table(self) -> None:
        """The stream stands right behind the last row of the tensor table, before the padding."""
        stream = Trickle(gguf_file(), 1 << 20)
        header = read_header(stream)
        assert 0 <= header.size_bytes - stream.given < header.alignment

    @pytest.mark.parametrize("count", [gguf.KEPT_ELEMENTS + 1, 20_000])
    def test_nothing_is_read_behind_a_long_vocabulary(self, count: int) -> None:
        """Reading ahead in a list of strings never leaves the list."""
        raw = gguf_header({"tokens": [str(number) for number in range(count)], "last": True}, ())
        stream = Trickle(raw + bytes(1 << 20), 1 << 20)
        assert read_header(stream).metadata["last"] is True
        assert stream.given <= len(raw)

    @pytest.mark.parametrize("step", [1, 7, 64])
    def test_short_reads_make_no_difference(self, step: int) -> None:
        """A stream that gives a few bytes at a time gives the same header."""
        metadata = {**TINY_METADATA, "tokens": ["token"] * 2000, "scores": Many(6, (1.0,) * 2000)}
        raw = gguf_header(metadata, TINY_TENSORS)
        assert read_header(Trickle(raw, step)) == read_header(BytesIO(raw))

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z]{1,8}(\.[a-z_]{1,8})?", fullmatch=True),
            st.one_of(
                st.booleans(),
                st.integers(0, 2**32 - 1),
                st.text(max_size=20),
                st.lists(st.text(max_size=5), max_size=5),
                st.floats(width=32, allow_nan=False),
            ),
            max_size=8,
        )
    )
    def test_what_was_written_is_read(self, metadata: dict[str, Value]) -> None:
        """Any metadata survives, in its order."""
        found = read(metadata).metadata
        plain = {
            key: list(value.elements or ()) if isinstance(value, Array) else value
            for key, value in found.items()
        }
        assert plain == metadata
        assert list(found) == list(metadata)


class TestKept:
    """What is too much to keep is counted: a vocabulary is some 150,000 tokens and never needed here."""

    @pytest.mark.parametrize(
        "many",
        [
            Many(8, ["x" * (number % 50) for number in range(5000)]),
            Many(6, [0.5] * 5000),
            Many(0, [1] * 5000),
        ],
    )
    def test_long_arrays_are_counted(self, many: Many) -> None:
        """Of a long array only type and length stay, and what follows is read rightly."""
        metadata = read({"many": many, "after": 7}).metadata
        assert metadata["many"] == Array(ValueType(many.type), 5000, None)
        assert metadata["after"] == 7

    def test_a_long_string_inside_a_long_array(self) -> None:
        """A string longer than what is read ahead is passed over, too."""
        tokens = ["x" * 200_000 if number == 3 else "y" for number in range(2000)]
        assert read({"many": tokens, "after": 7}).metadata["after"] == 7

    def test_a_long_text_is_counted(self) -> None:
        """A text that exceeds what is kept of a header becomes an array of bytes without elements."""
        length = gguf.KEPT_BYTES + 1
        metadata = read({"tokenizer.json": "x" * length, "after": "y"}).metadata
        assert metadata["tokenizer.json"] == Array(ValueType.UINT8, length, None)
        assert metadata["after"] == "y"

    def test_a_short_array_with_a_long_text_is_counted(self) -> None:
        """If one element cannot be kept, none is."""
        metadata = read({"texts": ["a", "x" * gguf.KEPT_BYTES], "after": 7}).metadata
        assert metadata["texts"] == Array(ValueType.STRING, 2, None)
        assert metadata["after"] == 7

    def test_many_short_arrays_are_counted_in_the_end(self) -> None:
        """The room is for the header as a whole, not for each value."""
        many = Many(0, [200] * gguf.KEPT_ELEMENTS)
        metadata = read([(f"key{number}", many) for number in range(200)]).metadata
        kept = [value for value in metadata.values() if isinstance(value, Array) and value.elements]
        assert 0 < len(kept) < 200


class TestOtherFiles:
    """A file that is no GGUF is named for what it seems to be."""

    @pytest.mark.parametrize(
        ("front", "kind"),
        [
            (b"PK\x03\x04rest of it", "a zip archive"),
            (b"\x1f\x8b\x08\0rest of it", "a gzip file"),
            (b"\x28\xb5\x2f\xfdrest of it", "a Zstandard file"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"\n  <html>", "a web page"),
            (b'{"errors": []}', "a JSON document"),
            (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
            (b"FUGG\x00\x00\x00\x03", "bytes swapped"),
            (b"lmggrest of it", "before GGUF"),
            (b'\x40\0\0\0\0\0\0\0{"__metadata__"', "a safetensors file"),
        ],
    )
    def test_lookalikes(self, front: bytes, kind: str) -> None:
        """The message says what the first bytes mean elsewhere."""
        error = refused(front)
        assert kind in error.message
        assert error.hint is not None

    def test_anything_else(self) -> None:
        """Bytes that mean nothing are only refused."""
        assert refused(b"abcdefgh").message == "this is not a GGUF file"

    @pytest.mark.parametrize(
        ("version", "words"),
        [
            (1, "version 1"),
            (0x02000000, "big-endian"),
            (0x03000000, "big-endian"),
            (0, "version 0"),
            (4, "version 4"),
        ],
    )
    def test_versions(self, version: int, words: str) -> None:
        """Version 1, big-endian files and versions to come are refused by name, as llama.cpp does."""
        assert words in refused(counts(0, 0, version)).message


HUGE = 2**64 - 1
ONE_KEY = counts(0, 1) + text("key")
ONE_TENSOR = counts(1, 0)

BROKEN = {
    "tensor count": (counts(HUGE, 0), "tensors"),
    "tensor count, just": (counts(gguf.TENSOR_LIMIT + 1, 0), "tensors"),
    "key count": (counts(0, HUGE), "metadata keys"),
    "key length": (counts(0, 1) + struct.pack("<Q", HUGE), "bytes of a key"),
    "empty key": (counts(0, 1) + text("") + metadata_value(1), "empty"),
    "key with an escape": (counts(0, 1) + text("a\x1b[31m") + metadata_value(1), "printable ASCII"),
    "key that is no UTF-8": (counts(0, 1) + text(b"\xff") + metadata_value(1), "printable ASCII"),
    "key twice": (counts(0, 2) + (text("key") + metadata_value(1)) * 2, "`key` is there twice"),
    "type": (ONE_KEY + struct.pack("<I", 13), "unknown type 13"),
    "element type": (ONE_KEY + struct.pack("<IIQ", 9, 99, 0), "unknown type 99"),
    "array of arrays": (ONE_KEY + struct.pack("<IIQ", 9, 9, 1), "array of arrays"),
    "array length": (ONE_KEY + struct.pack("<IIQ", 9, 4, HUGE), "elements of `key`"),
    "text length": (ONE_KEY + struct.pack("<IQ", 8, HUGE), "bytes of `key`"),
    "text length in a long array": (
        ONE_KEY + struct.pack("<IIQ", 9, 8, 5000) + struct.pack("<Q", HUGE) * 5000,
        "bytes of `key`",
    ),
    "bool": (ONE_KEY + struct.pack("<IB", 7, 2), "neither true nor false"),
    "alignment of zero": (gguf_header({"general.alignment": 0}, ()), "alignment 0"),
    "alignment of three": (gguf_header({"general.alignment": 3}, ()), "alignment 3"),
    "alignment out of reach": (gguf_header({"general.alignment": 1 << 21}, ()), "alignment"),
    "alignment as text": (gguf_header({"general.alignment": "32"}, ()), "no whole number"),
    "alignment as bool": (gguf_header({"general.alignment": True}, ()), "no whole number"),
    "tensor twice": (gguf_header({}, (Weights("a"), Weights("a"))), "`a` is there twice"),
    "tensor without a name": (gguf_header({}, (Weights(""),)), "tensor name"),
    "tensor name length": (gguf_header({}, (Weights("a" * 64),)), "bytes of a tensor's name"),
    "rank": (ONE_TENSOR + text("a") + struct.pack("<I", 5), "5 dimensions"),
    "one dimension": (
        ONE_TENSOR + text("a") + struct.pack("<IQIQ", 1, 2**63, F32, 0),
        "impossible dimensions",
    ),
    "dimensions together": (
        ONE_TENSOR + text("a") + struct.pack("<IQQIQ", 2, 2**32, 2**32, F32, 0),
        "impossible dimensions",
    ),
    "tensor type": (ONE_TENSOR + text("a") + struct.pack("<IQIQ", 1, 8, 4, 0), "unknown type 4"),
    "half a block": (ONE_TENSOR + text("a") + struct.pack("<IQIQ", 1, 33, Q8_0, 0), "whole blocks of 32"),
    "size": (ONE_TENSOR + text("a") + struct.pack("<IQIQ", 1, 2**62, F32, 0), "impossibly far out"),
    "first offset": (gguf_header({}, (Weights("a", offset=32),)), "is at 32, where 0 is expected"),
    "overlap": (gguf_header({}, (Weights("a"), Weights("b", offset=0))), "where 64 is expected"),
    "gap": (gguf_header({}, (Weights("a"), Weights("b", offset=HUGE))), "where 64 is expected"),
    "misaligned": (gguf_header({}, (Weights("a", (3,)), Weights("b", offset=12))), "where 32 is expected"),
}


class TestBroken:
    """Everything that breaks the format, and no more, is `Malformed`."""

    @pytest.mark.parametrize("case", BROKEN)
    def test_is_refused_by_name(self, case: str) -> None:
        """The message says what is wrong."""
        raw, words = BROKEN[case]
        assert words in refused(raw).message

    def test_truncation_anywhere(self) -> None:
        """A header cut short after any byte is refused as such."""
        raw = gguf_header({**TINY_METADATA, "tokens": ["ab"] * 1100}, TINY_TENSORS)
        end = len(raw.rstrip(b"\0")) + 8  # the last field is an offset that ends in zeros
        for length in [*range(1200), *range(1200, end - 200, 97), *range(end - 200, end - 8)]:
            error = refused(raw[:length])
            assert f"ends after {length} bytes" in error.message
            assert error.hint is not None

    def test_a_stream_that_gives_up(self) -> None:
        """A stream without blocking that has nothing at the moment counts as ended, in the middle too."""

        class Blocked(BytesIO):
            def read(self, count: int | None = -1, /) -> bytes:
                return super().read(min(count or 0, 2)) or None  # type: ignore[return-value]

        with pytest.raises(Malformed, match="ends after 6 bytes"):
            read_header(Blocked(b"GGUF\3\0"))

    @given(st.data())
    def test_mutations(self, data: st.DataObject) -> None:
        """A header with some bytes changed is read or refused, never anything else."""
        raw = bytearray(gguf_file())
        for _ in range(data.draw(st.integers(1, 4))):
            raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
        try:
            read_header(BytesIO(raw))
        except Malformed as error:
            assert error.message.isprintable()

    @given(st.binary(max_size=300))
    def test_any_bytes_behind_the_magic(self, raw: bytes) -> None:
        """Whatever follows the magic and a version is read or refused."""
        try:
            read_header(BytesIO(b"GGUF\3\0\0\0" + raw))
        except Malformed as error:
            assert error.message.isprintable()

    def test_a_header_without_end(self) -> None:
        """Lengths that are allowed one by one may not add up to more than the limit of a header."""
        array = struct.pack("<IIQ", 9, 11, gguf.ARRAY_LIMIT)
        keys = [(text(f"key{number}") + array, 8 * gguf.ARRAY_LIMIT) for number in range(3)]
        with pytest.raises(Malformed, match="longer than"):
            read_header(Hollow(counts(0, 3), *(piece for key in keys for piece in key)))

    def test_memory_stays_small(self) -> None:
        """A header made to fill the memory costs a few times what is kept."""
        many = struct.pack("<IIQ", 9, 4, gguf.KEPT_ELEMENTS) + b"\xff" * 4 * gguf.KEPT_ELEMENTS
        numbers = b"".join(text(f"numbers{n}") + many for n in range(2000))
        wide = struct.pack("<I", 8) + text("\U0001f600" + "a" * 900_000)
        texts = b"".join(text(f"texts{n}") + wide for n in range(8))
        raw = BytesIO(counts(0, 2008) + texts + numbers)
        tracemalloc.start()
        read_header(raw)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 * gguf.KEPT_BYTES


def test_the_builder_pads_like_the_format() -> None:
    """The writer of the tests agrees with the reader about the length of a whole file."""
    raw = gguf_file(TINY_METADATA, (Weights("a", (32, 4), Q8_0), Weights("b", (5,), F16)))
    header = read_header(BytesIO(raw))
    assert header.size_bytes < header.file_bytes <= len(raw)
    assert len(raw) % header.alignment == 0
