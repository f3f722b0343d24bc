"""The header of a model without the model: what `fit` needs to know before gigabytes are fetched.

    front, 64 KiB → where the tensor table must lie → that piece, 192 KiB at the most → proof
                                                                        else the header from the front on

A Qwen2.5 header has 6 MB, nearly all of it vocabulary. Both its ends say what the memory depends on.
"""

from dataclasses import dataclass
from io import SEEK_END, BufferedReader, BytesIO
from pathlib import Path
from typing import Literal

from qwenctl.errors import AccessDenied, FileMissing, Malformed, RangeIgnored, UsageError
from qwenctl.model.artifact import ModelConfig
from qwenctl.model.bounded import PIECE
from qwenctl.model.gguf import Header, read_front, read_header
from qwenctl.model.quantization import parse_quantization
from qwenctl.model.table import FRONT_BYTES, find_header, predict_window
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.target import PIECE as FILE_PIECE
from qwenctl.oci.target import Reader, Source
from qwenctl.store.store import Store

Method = Literal["file", "two ranges", "stream"]


@dataclass(frozen=True, slots=True)
class ReadHeader:
    """A header, and what it cost: requests to the source, and bytes taken from it.

    After `two ranges` the metadata end with the vocabulary, of which there is the length alone.
    """

    header: Header
    requests: int
    bytes_read: int
    method: Method


def read_remote_header(source: Source, layer: Descriptor, hint: ModelConfig | None = None) -> ReadHeader:
    """The header of the GGUF file `layer`, not yet verified by its digest.

    `hint` is what the model's config says, for a file that does not say its quantization in front.
    From a store it is read as a file. From elsewhere two pieces of at most 256 KiB in all are fetched when
    that suffices, else as much as the header has.

    Raises: Malformed; and what `Source.fetch` raises.
    """
    taken = _Taken(source, layer)
    if isinstance(source, Store):
        return _read_on(taken, b"", "file")
    front = taken.piece(0, FRONT_BYTES)
    header = _between_two_pieces(taken, front, hint)
    if header is None:
        return _read_on(taken, front, "stream")
    return ReadHeader(header, taken.requests, taken.bytes, "two ranges")


def read_file_header(path: Path) -> tuple[Header, int]:
    """The header of a GGUF file on this machine, and the file's length in bytes.

    Raises: FileMissing, AccessDenied; Malformed, also for a file that is shorter than its header says.
    """
    with open_file(path) as file:
        header = read_header(file)
        size = file.seek(0, SEEK_END)
    if size < header.file_bytes:
        raise Malformed(
            f"`{path}` ends after {size} bytes; by its header it has {header.file_bytes}",
            hint="the file is cut short; fetch it again",
        )
    return header, size


def open_file(path: Path, offset: int = 0) -> BufferedReader:
    """A file of the user's from byte `offset` on; the caller closes it. Raises: FileMissing, AccessDenied."""
    try:
        file = path.open("rb", buffering=FILE_PIECE)
    except FileNotFoundError as error:
        raise FileMissing(f"file `{path}` does not exist") from error
    except OSError as error:
        raise AccessDenied(f"file `{path}` cannot be read: {error.strerror}") from error
    file.seek(offset)
    assert isinstance(file, BufferedReader)
    return file


class _Taken:
    """A layer at its source, and what was taken of it."""

    def __init__(self, source: Source, layer: Descriptor) -> None:
        self.layer = layer
        self.requests = 0
        self.bytes = 0
        self._source = source

    def open(self, offset: int, length: int | None = None) -> Reader:
        """A counted request; the caller closes it."""
        self.requests += 1
        return self._source.fetch(self.layer, offset, length)

    def piece(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes, fewer at the end of the layer."""
        with self.open(offset, length) as reader:
            return self.read(reader, length)

    def read(self, reader: Reader, count: int) -> bytes:
        """Up to `count` bytes of a reader, fewer at its end alone."""
        buffer = memoryview(bytearray(count))
        filled = 0
        while filled < count and (step := reader.readinto(buffer[filled:])):
            filled += step
        self.bytes += filled
        return bytes(buffer[:filled])


class _Stream:
    """A layer from its front, which is here already, to wherever reading stops; see `bounded.Stream`.

    The rest is asked for when it is needed.
    """

    def __init__(self, taken: _Taken, front: bytes) -> None:
        self._taken = taken
        self._begun = len(front)
        self._block = BytesIO(front)
        self._reader: Reader | None = None

    def read(self, count: int, /) -> bytes:
        """See `bounded.Stream`."""
        return self._block.read(count) or self._next().read(count)

    def close(self) -> None:
        """Leave the source."""
        if self._reader is not None:
            self._reader.close()

    def _next(self) -> BytesIO:
        if self._reader is None:
            self._reader = self._taken.open(self._begun)
        self._block = BytesIO(self._taken.read(self._reader, PIECE))
        return self._block


def _read_on(taken: _Taken, front: bytes, method: Method) -> ReadHeader:
    stream = _Stream(taken, front)
    try:
        header = read_header(stream)
    finally:
        stream.close()
    if header.file_bytes > taken.layer.size:
        raise Malformed(
            f"the tensors of `{taken.layer.digest}` end at {header.file_bytes}, beyond the file's end",
            hint="the file was cut short before it was published",
        )
    return ReadHeader(header, taken.requests, taken.bytes, method)


def _between_two_pieces(taken: _Taken, front: bytes, hint: ModelConfig | None) -> Header | None:
    """None when the table was not found, for whatever reason: reading on finds a damage, and says it."""
    size = taken.layer.size
    try:
        read = read_front(BytesIO(front))
        window = predict_window(read, size, _quantization(hint))
        if window is None or window.offset + window.length <= len(front):
            return None
        return find_header(taken.piece(window.offset, window.length), window.offset, read, size)
    except (Malformed, RangeIgnored):
        return None


def _quantization(hint: ModelConfig | None) -> str | None:
    try:
        return parse_quantization(hint.quantization) if hint is not None else None
    except UsageError:
        return None
