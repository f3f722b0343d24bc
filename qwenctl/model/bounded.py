"""Reads from a stream that may be short, slow or hostile: nothing is allocated that was not counted first."""

from typing import Final, Protocol

from qwenctl.errors import Malformed

PIECE: Final = 1 << 16
"""Bytes passed over at a time."""


class Stream(Protocol):
    """Bytes in order: a file, a response, a `BytesIO`."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes, fewer at any time; none only at the end."""
        ...


class BoundedReader:
    """Little-endian reads of at most `limit` bytes in all; `position` says how many there were.

    It reads exactly what it is asked for, so that the stream stays usable behind it.
    Every method raises Malformed when the stream ends too early or the limit is passed.
    """

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self.position = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes; the caller has bounded `count`."""
        start = self.position
        self.position = start + count
        if self.position > self._limit:
            raise Malformed(f"GGUF header is longer than {self._limit} bytes")
        piece = self._stream.read(count) if count else b""
        return piece if len(piece) == count else self._rest(piece, count, start)

    def some(self, count: int) -> bytes:
        """Up to `count` bytes, fewer at the end; for telling what a wrong file is."""
        return self._stream.read(count) or b""

    def integer(self, width: int) -> int:
        """An unsigned number of `width` bytes."""
        return int.from_bytes(self.take(width), "little")

    def count(self, limit: int, what: str) -> int:
        """A 64-bit count, refused above `limit`."""
        return _checked(self.integer(8), limit, what)

    def text(self, limit: int, what: str) -> bytes:
        """The bytes of a string: a 64-bit length, refused above `limit`, and as many bytes."""
        return self.take(self.count(limit, f"bytes of {what}"))

    def skip(self, count: int) -> None:
        """Pass over `count` bytes without keeping them."""
        while count > 0:
            step = min(count, PIECE)
            self.take(step)
            count -= step

    def skip_texts(self, count: int, limit: int, what: str) -> None:
        """Pass over `count` strings: vocabularies have some 100,000, so this is most of a header's time.

        Each string to come has at least the 8 bytes of its length: so many are read ahead, never more.
        """
        block, at = b"", 0
        while count:
            rest = len(block) - at
            if rest < 8:
                block, at = block[at:] + self.take(min(8 * count - rest, PIECE)), 0
            length = int.from_bytes(block[at : at + 8], "little")
            if length > limit:
                _checked(length, limit, f"bytes of {what}")
            at += 8 + length
            count -= 1
            if at > len(block):
                self.skip(at - len(block))
                block, at = b"", 0

    def _rest(self, piece: bytes | None, count: int, start: int) -> bytes:
        """What a short read left out. A stream that has nothing at the moment (None) counts as ended."""
        pieces = bytearray(piece or b"")
        while piece and len(pieces) < count:
            piece = self._stream.read(count - len(pieces))
            pieces += piece or b""
        if len(pieces) < count:
            raise Malformed(
                f"GGUF header ends after {start + len(pieces)} bytes, in the middle",
                hint="the file is cut short; fetch it again",
            )
        return bytes(pieces)


def _checked(count: int, limit: int, what: str) -> int:
    if count > limit:
        raise Malformed(f"GGUF header announces {count} {what}, more than {limit}")
    return count
