"""Digests and the verifier."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import DigestMismatch, InvalidDigest, SizeMismatch
from qwenctl.oci.digest import Algorithm, Digest, Verifier, verify

EMPTY_256 = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize("text", [EMPTY_256, f"sha256:{HEX}", f"sha512:{HEX}{HEX}"])
def test_digests_read_as_they_are_written(text: str) -> None:
    """A digest renders as it was spelled (descriptor.md, "Digests")."""
    digest = Digest.parse(text)
    assert str(digest) == text
    assert digest.short == text.partition(":")[2][:12]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        HEX,
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha512:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\n",
        f"sha256:{HEX}\n",
        f" sha256:{HEX}",
        f"SHA256:{HEX}",
        f"sha1:{HEX[:40]}",
        f"sha384:{HEX}{HEX[:32]}",
        f"md5:{HEX[:32]}",
        f"sha256:../../{HEX[:58]}",
        f"sha256:{HEX[:-1]}\N{FULLWIDTH DIGIT ONE}",
        f"sha256:{HEX[:31]}:{HEX[:32]}",
        "x" * 10_000,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Other algorithms, lengths, cases and characters are no digest; the message stays short."""
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse(text)
    assert len(caught.value.message) < 300
    assert caught.value.hint


@given(st.text())
def test_parsing_never_fails_otherwise(text: str) -> None:
    """Any text is a digest that renders back, or InvalidDigest."""
    with suppress(InvalidDigest):
        assert str(Digest.parse(text)) == text


@given(st.binary(), st.sampled_from(["sha256", "sha512"]))
def test_of_content(content: bytes, algorithm: Algorithm) -> None:
    """The digest of content is what hashlib says, and parses."""
    digest = Digest.of(content, algorithm)
    assert digest == Digest.parse(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")
    assert verify(content, digest, len(content)) is content


@given(st.lists(st.binary(max_size=50)))
def test_pieces_do_not_matter(pieces: list[bytes]) -> None:
    """Fed whole, or in any pieces of any byte type, the verdict is the same."""
    content = b"".join(pieces)
    verifier = Verifier(Digest.of(content), len(content))
    for number, piece in enumerate(pieces):
        verifier.update((bytes, bytearray, memoryview)[number % 3](piece))
    verifier.finish()
    assert verifier.count == len(content)


def test_too_many_bytes_are_refused_at_once() -> None:
    """The excess raises before it is hashed, not at the end."""
    verifier = Verifier(Digest.of(b"abc"), 3)
    verifier.update(b"abc")
    with pytest.raises(SizeMismatch, match="more than the 3 bytes"):
        verifier.update(b"d")


def test_too_few_bytes_are_refused_at_the_end() -> None:
    """An early end raises SizeMismatch with both counts."""
    verifier = Verifier(Digest.of(b"abc"), 3)
    verifier.update(b"ab")
    with pytest.raises(SizeMismatch, match="2 of 3"):
        verifier.finish()


def test_other_bytes_are_refused() -> None:
    """Bytes of the right number that are not the ones raise DigestMismatch with both digests."""
    with pytest.raises(DigestMismatch) as caught:
        verify(b"abd", Digest.of(b"abc"), 3)
    assert str(Digest.of(b"abc")) in caught.value.message
    assert str(Digest.of(b"abd")) in caught.value.message
