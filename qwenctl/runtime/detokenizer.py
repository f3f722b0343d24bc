"""Bytes of tokens to text, piece by piece: a token may end in the middle of a character."""

import codecs


class Detokenizer:
    """Turns the bytes of successive tokens into whole characters.

    It keeps at most the 3 bytes of a character that may still become whole; bytes that cannot are U+FFFD,
    exactly where `bytes.decode(errors="replace")` of the whole would put them.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> str:
        """The characters that `piece` completes."""
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """What is left: U+FFFD for a character that never became whole, else nothing."""
        return self._decoder.decode(b"", final=True)
