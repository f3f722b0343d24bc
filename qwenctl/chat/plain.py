"""Text that may go to a terminal: what a model writes must not move the cursor or set the title.

Source: ECMA-48, sections 5.2 to 5.4 (C0, C1 and the sequences that ESC and CSI begin).
"""

import re
from typing import Final

# A whole sequence: CSI … final byte; OSC, DCS, SOS, PM, APC … up to BEL or ST; ESC and one more byte.
_SEQUENCE: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-OQ-WYZ\\\\`-~]"
)
_BEGUN: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*\\Z"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*\x1b?\\Z"
    "|\x1b[ -/]*\\Z"
)
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LONGEST: Final = 256  # characters of a sequence that is begun and not ended; then it is none


class PlainText:
    """Takes pieces of text and gives them back without control sequences, wherever they were cut."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """What can be shown now; a sequence that may go on in the next piece is held back."""
        text = _SEQUENCE.sub("", self._held + piece)
        begun = _BEGUN.search(text)
        if begun and len(text) - begun.start() <= _LONGEST:
            text, self._held = text[: begun.start()], text[begun.start() :]
        else:
            self._held = ""
        return _CONTROL.sub("", text)

    def end(self) -> str:
        """What was still held back, when nothing follows."""
        text, self._held = self._held, ""
        return _CONTROL.sub("", text)


def plain(text: str) -> str:
    """The whole of `text` without control sequences."""
    cleaner = PlainText()
    return cleaner.feed(text) + cleaner.end()
