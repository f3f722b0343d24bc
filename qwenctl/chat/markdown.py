"""Markdown in colours while it streams. Only colours are added: without them it is what the model wrote.

So lines wrap where the terminal wraps them, after a resize too, and what is copied is the model's text:
code without frames or padding. Headings are bold, markers and fences dim, code has its language's colours.

Source: CommonMark 0.31, sections 4.2 (headings), 4.5 (fences), 5.1 (quotes), 5.2 (lists), 6.1 (code spans),
6.2 (emphasis, of which a line is enough here).
"""

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.syntax import Syntax

RESET: Final = "\x1b[0m"
BOLD: Final = "\x1b[1m"
DIM: Final = "\x1b[2m"
ITALIC: Final = "\x1b[3m"
CODE: Final = "\x1b[36m"

_FENCE: Final = re.compile(r"\s*(`{3,}|~{3,})\s*([\w+#.-]*)[^`\n]*\n?")
_BLOCK: Final = re.compile(r"(\s*)(#{1,6}(?=\s)|>|[-*+](?=\s)|\d{1,9}[.)](?=\s))")
# The beginning of a line that may still become one of these.
_UNDECIDED: Final = re.compile(r"\s*(?:#{0,6}|`{1,}[^`\n]*|~{1,}[^\n]*|[-*+]|\d{1,9}[.)]?)")
_TOKEN: Final = re.compile(r"\\.?|`+|\*+|_+|[^\\`*_]+", re.DOTALL)
_REMEMBERED_LINES: Final = 50
"""So much of a block of code is looked at for the colours of its last line: milliseconds, however long."""


class Markdown:
    """Takes pieces of one text and gives them back with colours. At line ends no colour is on."""

    def __init__(self) -> None:
        self._held = ""
        self._code: _CodeBlock | None = None
        self._line = _Line()

    def feed(self, piece: str) -> str:
        """What can be shown now; what the next piece decides about, or a line of code, is held back."""
        self._held += piece
        shown = []
        while "\n" in self._held:
            line, _, self._held = self._held.partition("\n")
            shown.append(self._whole_line(line + "\n"))
        shown.append(self._part_of_line())
        return "".join(shown)

    def end(self) -> str:
        """What was held back, when nothing follows."""
        line, self._held = self._held, ""
        return self._whole_line(line) if line else self._line.end("")

    def _whole_line(self, line: str) -> str:
        if self._code is not None:
            if self._code.closes(line):
                self._code = None
                return _painted(DIM, line)
            return self._code.paint(line)
        if self._line.fresh and (fence := _FENCE.fullmatch(line)):
            self._code = _CodeBlock(fence[1], fence[2])
            return _painted(DIM, line)
        text, newline, _ = line.partition("\n")
        shown = self._line.feed(text) + self._line.end(newline)
        self._line = _Line()
        return shown

    def _part_of_line(self) -> str:
        if self._code is not None or (self._line.fresh and _UNDECIDED.fullmatch(self._held)):
            return ""
        text, self._held = self._held, ""
        return self._line.feed(text)


class _Line:
    """One line that is no code, in pieces."""

    def __init__(self) -> None:
        self.fresh = True
        self._heading = self._strong = self._emphasis = False
        self._code = ""  # the backticks that a code span began with
        self._held = ""  # a marker whose next character is not known
        self._before = " "  # the character before

    def feed(self, text: str) -> str:
        """The next piece, painted, except a marker at its end."""
        shown = ""
        if self.fresh and text:
            self.fresh = False
            if block := _BLOCK.match(text):
                self._heading = block[2].startswith("#")
                shown, text = block[1] + _painted(DIM, block[2]), text[block.end() :]
        tokens = _TOKEN.findall(self._held + text)
        self._held = tokens.pop() if tokens and tokens[-1][0] in "\\`*_" and len(tokens[-1]) < 8 else ""
        for place, token in enumerate(tokens):
            after = tokens[place + 1] if place + 1 < len(tokens) else self._held
            shown += self._token(token, after[:1])
        return shown

    def end(self, newline: str) -> str:
        """The marker that was held, and the line break."""
        held, self._held = self._held, ""
        return (self._token(held, "\n") if held else "") + newline

    def _token(self, token: str, after: str) -> str:
        marks = token[0] in "`*_"
        before, self._before = self._before, token[-1]
        if not marks or (self._code and token != self._code):
            return _painted(self._style(), token)
        if token[0] == "`":
            self._code = "" if self._code else token
            return _painted(CODE, token)
        opens = not after.isspace() and after != "" and not (token[0] == "_" and before.isalnum())
        closes = not before.isspace() and not (token[0] == "_" and after.isalnum())
        if not self._toggle(len(token), opens, closes):
            return _painted(self._style(), token)
        return _painted(DIM, token)

    def _toggle(self, length: int, opens: bool, closes: bool) -> bool:
        """Switches what a run of so many markers switches; whether it does."""
        wanted = {1: (False, True), 2: (True, False), 3: (True, True)}.get(length)
        if wanted is None:
            return False
        on = [flag for flag, want in zip((self._strong, self._emphasis), wanted, strict=True) if want]
        if not (closes if all(on) else opens and not any(on)):
            return False
        strong, emphasis = wanted
        self._strong, self._emphasis = self._strong != strong, self._emphasis != emphasis
        return True

    def _style(self) -> str:
        if self._code:
            return CODE
        return (BOLD if self._heading or self._strong else "") + (ITALIC if self._emphasis else "")


class _CodeBlock:
    """The lines between two fences."""

    def __init__(self, fence: str, language: str) -> None:
        self._fence = fence
        self._language = language
        self._syntax: Syntax | None = None
        self._lines: list[str] = []

    def closes(self, line: str) -> bool:
        """Whether this line is the other fence."""
        text = line.strip()
        return text == text[:1] * len(text) and text.startswith(self._fence)

    def paint(self, line: str) -> str:
        """A line in the colours of its language, which depend on the lines before it."""
        self._lines = [*self._lines, line][-_REMEMBERED_LINES:]
        if not self._language:
            return _painted(CODE, line)
        from rich.console import Console
        from rich.syntax import Syntax

        if self._syntax is None:
            # The terminal's own 16 colours, which suit its background; tabs stay tabs.
            self._syntax = Syntax("", self._language, theme="ansi_dark", tab_size=0)
        if self._syntax.lexer is None:
            self._language = ""
            return _painted(CODE, line)
        lines = self._syntax.highlight("".join(self._lines)).split("\n", allow_blank=True)
        text = lines[len(self._lines) - 1] if len(lines) >= len(self._lines) else None
        if text is None or text.plain != line.removesuffix(
            "\n"
        ):  # a lexer may change white space, which is not its matter
            return _painted(CODE, line)
        console = Console(color_system="standard", force_terminal=True)
        segments = text.render(console)
        painted = "".join(
            segment.style.render(segment.text) if segment.style else segment.text for segment in segments
        )
        return painted + line[len(line.removesuffix("\n")) :]


def _painted(style: str, text: str) -> str:
    """`text` in a style that ends with it, and before its line break."""
    body = text.removesuffix("\n")
    return (f"{style}{body}{RESET}" if style and body else body) + text[len(body) :]
