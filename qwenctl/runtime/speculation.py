"""Speculative decoding: tokens guessed cheaply, which the model verifies several at a time."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

# How many of the last tokens are looked for, most first; a single one is seldom followed by the same again.
# Source: llama.cpp common/ngram-cache.h, LLAMA_NGRAM_MAX.
_NGRAMS: Final = (4, 3, 2)
_TOKEN_BYTES: Final = array("i").itemsize
# Verifying is not free: when less than a quarter of so many guesses came true, a request rests from guessing.
_TRIAL_TOKENS: Final = 32
_LEAST_SHARE: Final = 0.25
_REST_TOKENS: Final = 64


@dataclass(slots=True)
class Pace:
    """Whether guessing pays for one request, judged by how it went."""

    _drafted: int = 0
    _accepted: int = 0
    _rest: int = 0

    def due(self) -> bool:
        """Whether to guess now. Call once for each token."""
        if self._rest > 0:
            self._rest -= 1
            return False
        return True

    def note(self, drafted: int, accepted: int) -> None:
        """So many tokens were guessed, and so many of them were right."""
        self._drafted += drafted
        self._accepted += accepted
        if self._drafted < _TRIAL_TOKENS:
            return
        if self._accepted < _LEAST_SHARE * self._drafted:
            self._rest = _REST_TOKENS
        self._drafted = self._accepted = 0


@dataclass(frozen=True, slots=True)
class Guess:
    """A request for up to `count` tokens that may follow `tokens`, the content of a sequence."""

    sequence: int
    tokens: list[int]
    count: int


class Drafter(Protocol):
    """Where guesses come from. One thread calls it."""

    def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
        """For each of them the tokens that may follow, perhaps none."""
        ...

    def close(self) -> None:
        """Frees what it holds. Call once, when nothing drafts any more."""
        ...


@dataclass(slots=True)
class _Written:
    """The tokens of a sequence as bytes, in which C searches."""

    tokens: list[int] | None = None
    text: bytearray = field(default_factory=bytearray)

    def follow(self, tokens: list[int]) -> bytearray:
        """`tokens` as bytes; writes only the new ones where the list is the one of before, grown."""
        written = len(self.text) // _TOKEN_BYTES
        if tokens is not self.tokens or written > len(tokens):
            self.text.clear()
            self.tokens, written = tokens, 0
        self.text += array("i", tokens[written:]).tobytes()
        return self.text


class Lookup:
    """`Drafter` by what came before: what followed the last tokens when they came earlier in the sequence."""

    def __init__(self) -> None:
        self._written: dict[int, _Written] = {}

    def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
        """See `Drafter`."""
        found: list[list[int]] = []
        for guess in guesses:
            written = self._written.setdefault(guess.sequence, _Written())
            found.append(look_up(written.follow(guess.tokens), guess.count))
        return found

    def close(self) -> None:
        """See `Drafter`."""
        self._written.clear()


def look_up(text: bytes | bytearray, count: int) -> list[int]:
    """Up to `count` tokens that followed the last occurrence of the last few tokens before these themselves.

    `text` has the tokens as native 32-bit integers. Empty where even the last two never came before.
    """
    for ngram in _NGRAMS:
        size = ngram * _TOKEN_BYTES
        if len(text) <= size:
            continue
        place = _last_before_end(text, bytes(text[-size:]))
        if place >= 0:
            start = place + size
            return list(array("i", bytes(text[start : start + count * _TOKEN_BYTES])))
    return []


def _last_before_end(text: bytes | bytearray, needle: bytes) -> int:
    """The last place of `needle` at the beginning of a token, but for its own at the end; -1 for none."""
    place = text.rfind(needle, 0, len(text) - _TOKEN_BYTES)
    while place > 0 and place % _TOKEN_BYTES:
        place = text.rfind(needle, 0, place + len(needle) - 1)
    return place
