"""Digests and the verifier that every byte of content passes before it is believed.

Source: OCI image-spec v1.1, descriptor.md, "Digests": `algorithm ":" encoded`; sha256 has 64 lower-case
hexadecimal digits, sha512 has 128. Other registered algorithms are refused: we could not verify them.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, Self, cast

from qwenctl.errors import DigestMismatch, InvalidDigest, SizeMismatch

Algorithm = Literal["sha256", "sha512"]
_HEX_DIGITS: Final[dict[str, int]] = {"sha256": 64, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """The name of some bytes; safe to use in a path once it exists."""

    algorithm: Algorithm
    hex: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that `text` spells. Raises: InvalidDigest for anything else."""
        algorithm, _, encoded = text.partition(":")
        if len(encoded) != _HEX_DIGITS.get(algorithm) or not _HEX.fullmatch(encoded):
            raise InvalidDigest(
                f"`{text[:200]}` is not a digest",
                hint="a digest is `sha256:` with 64 or `sha512:` with 128 lower-case hex digits",
            )
        return cls(cast(Algorithm, algorithm), encoded)

    @classmethod
    def of(cls, content: bytes, algorithm: Algorithm = "sha256") -> Self:
        """The digest of `content`, held in memory whole."""
        return cls(algorithm, hashlib.new(algorithm, content).hexdigest())

    @property
    def short(self) -> str:
        """The first 12 hex digits: enough for a person, never used to look content up."""
        return self.hex[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Verifier:
    """Counts and hashes a stream of bytes, then says whether it is the content that was named.

    One thread at a time. `hashlib` drops the interpreter lock for pieces over 2 KiB, so a verifier
    in a second thread runs beside the writer.
    """

    def __init__(self, digest: Digest, size: int) -> None:
        self.digest = digest
        self.size = size
        self.count = 0
        self._hash = hashlib.new(digest.algorithm)

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes. Raises: SizeMismatch as soon as they are more than `size`."""
        self.count += len(piece)
        if self.count > self.size:
            raise too_long(self.digest, self.size)
        self._hash.update(piece)

    def finish(self) -> None:
        """Raises: SizeMismatch when bytes are missing, DigestMismatch when they are other bytes."""
        if self.count != self.size:
            raise too_short(self.digest, self.count, self.size)
        actual = self._hash.hexdigest()
        if actual != self.digest.hex:
            raise DigestMismatch(
                f"content is damaged: expected `{self.digest}`, got `{self.digest.algorithm}:{actual}`",
                hint="nothing was stored under this name; try again",
            )


def too_short(digest: Digest, count: int, size: int) -> SizeMismatch:
    """The error for content that ended after `count` of its `size` bytes."""
    return SizeMismatch(
        f"`{digest}` ended after {count} of {size} bytes", hint="the content was cut short; try again"
    )


def too_long(digest: Digest, size: int) -> SizeMismatch:
    """The error for content that goes on after its `size` bytes."""
    return SizeMismatch(f"`{digest}` has more than the {size} bytes it should have")


def verify(content: bytes, digest: Digest, size: int) -> bytes:
    """`content` itself, once its size and digest are proved. Raises: SizeMismatch, DigestMismatch."""
    verifier = Verifier(digest, size)
    verifier.update(content)
    verifier.finish()
    return content
