"""Stop strings in a stream of text: found across the borders of pieces, never shown, not even in part."""

from collections.abc import Sequence
from typing import Final, NamedTuple


class Matched(NamedTuple):
    """`text` is safe to show; `stopped` says that a stop string came right after it."""

    text: str
    stopped: bool


class StopMatcher:
    """Passes text on, but holds back an end that may be the beginning of a stop string.

    Of several stop strings the one that is complete first counts, the longest of those that are complete
    at the same character; so the result does not depend on how the text is cut into pieces. After a
    match it takes no more text. Work per character is bounded by the number of stop strings (amortised).
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._patterns: Final = [_Pattern(stop) for stop in stops]
        self._held = ""
        self.matched: str | None = None
        """The stop string that came, once one came."""

    def feed(self, text: str) -> Matched:
        """What `text` lets us show."""
        if not self._patterns:
            return Matched(text, False)
        held = self._held + text
        for end in range(len(self._held), len(held)):
            # A list, not a generator: every pattern has to see the character.
            complete = [p.length for p in self._patterns if p.advance(held[end])]
            if complete:
                self._held = ""
                start = end + 1 - max(complete)
                self.matched = held[start : end + 1]
                return Matched(held[:start], True)
        keep = len(held) - max(pattern.matched for pattern in self._patterns)
        self._held = held[keep:]
        return Matched(held[:keep], False)

    def finish(self) -> str:
        """The text still held back, when the stream ends without a stop string."""
        held, self._held = self._held, ""
        return held


class _Pattern:
    """Knuth-Morris-Pratt for one string: `matched` characters of it end the text so far."""

    __slots__ = ("_borders", "_text", "length", "matched")

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self.matched = 0
        self._borders = [0]
        for character in text[1:]:
            self._borders.append(self._next(self._borders[-1], character))

    def advance(self, character: str) -> bool:
        """Whether `character` completes the string."""
        self.matched = self._next(self.matched, character)
        return self.matched == self.length

    def _next(self, matched: int, character: str) -> int:
        while matched and self._text[matched] != character:
            matched = self._borders[matched - 1]
        return matched + (self._text[matched] == character)
