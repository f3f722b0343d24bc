"""A terminal's screen as a picture: what a program wrote, laid out as by a terminal, and drawn as SVG.

It knows the control sequences that our program writes (rich's bars, prompt_toolkit's prompt, colours), and
has as many rows as are needed, so nothing scrolls away.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Final
from xml.sax.saxutils import escape

_SEQUENCE: Final = re.compile(r"\x1b\[([0-9;?]*)([@-~])|\x1b[()][A-Z0-9]|\x1b[=>78]")
_WIDTH, _HEIGHT, _MARGIN, _SIZE = 8.0, 18, 16, 13  # pixels: a cell, the space around all, the letters
_NAMES: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_STYLE: Final = """\
.page{fill:#fbfbf8;stroke:#d5d5cf}
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
text{fill:#24292f}.bold{font-weight:bold}.dim,.black{fill:#6e7781}
.red{fill:#b3261e}.green{fill:#1a7f37}.yellow{fill:#8a6100}
.blue{fill:#0b5cad}.magenta{fill:#8250df}.cyan{fill:#0e7490}
@media (prefers-color-scheme:dark){.page{fill:#0d1117;stroke:#30363d}
text{fill:#e6edf3}.dim,.black{fill:#8b949e}
.red{fill:#ff7b72}.green{fill:#56d364}.yellow{fill:#e3b341}
.blue{fill:#79c0ff}.magenta{fill:#d2a8ff}.cyan{fill:#56d4dd}}
"""


@dataclass(frozen=True, slots=True)
class Pen:
    """How letters look: the classes of the picture's style."""

    colour: str = ""
    bold: bool = False
    dim: bool = False

    def after(self, code: str) -> "Pen":
        """The pen after SGR parameters. Source: ECMA-48, 8.3.117; xterm for 38;5 and 90 to 97."""
        numbers = iter([int(number or 0) for number in code.split(";")])
        pen = self
        for number in numbers:
            if number == 0:
                pen = Pen()
            elif number in (1, 2):
                pen = replace(pen, bold=pen.bold or number == 1, dim=pen.dim or number == 2)
            elif number == 22:
                pen = replace(pen, bold=False, dim=False)
            elif number == 38 and next(numbers, 0) == 5:
                pen = replace(pen, colour=_of_palette(next(numbers, 0)))
            elif 30 <= number <= 37 or 90 <= number <= 97:
                pen = replace(pen, colour=_NAMES[number % 10])
            elif number == 39:
                pen = replace(pen, colour="")
        return pen

    @property
    def classes(self) -> str:
        """The names of what is not plain."""
        named = "" if self.colour == "white" else self.colour
        return " ".join(filter(None, (named, "bold" if self.bold else "", "dim" if self.dim else "")))


def _of_palette(number: int) -> str:
    """The nearest of our colours. Source: xterm's 256 colours: 16 by name, a cube of 6³, a grey ramp."""
    if number < 16:
        return _NAMES[number % 8]
    if number >= 232:
        return "black"
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    most = max(red, green, blue)
    parts = (red * 2 > most, green * 2 > most, blue * 2 > most)
    return _NAMES[parts[0] + 2 * parts[1] + 4 * parts[2]] if most else "black"


@dataclass
class Terminal:
    """The cells of a terminal of so many columns."""

    columns: int
    rows: list[list[tuple[str, Pen]]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    pen: Pen = field(default_factory=Pen)

    def write(self, text: str) -> None:
        """Take what a program wrote."""
        at = 0
        for found in _SEQUENCE.finditer(text):
            self._put(text[at : found.start()])
            self._control(found[1] or "", found[2] or "")
            at = found.end()
        self._put(text[at:])

    def _put(self, text: str) -> None:
        for letter in text:
            if letter == "\r":
                self.column = 0
            elif letter == "\n":
                self._move(self.row + 1)
            elif letter == "\b":
                self.column = max(0, self.column - 1)
            elif letter >= " ":
                if self.column == self.columns:
                    self._move(self.row + 1)
                    self.column = 0
                line = self.rows[self.row]
                line.extend([(" ", Pen())] * (self.column + 1 - len(line)))
                line[self.column] = (letter, self.pen)
                self.column += 1

    def _move(self, row: int) -> None:
        self.row = max(0, row)
        self.rows.extend([] for _ in range(self.row + 1 - len(self.rows)))

    def _control(self, parameters: str, name: str) -> None:
        number = int(parameters) if parameters.isdecimal() else 0
        match name:
            case "m":
                self.pen = self.pen.after(parameters)
            case "A" | "B":
                self._move(self.row + (-1 if name == "A" else 1) * max(1, number))
            case "C" | "D":
                self.column = max(0, self.column + (1 if name == "C" else -1) * max(1, number))
            case "K" if number == 2:
                self.rows[self.row].clear()
            case "K" | "J":
                del self.rows[self.row][self.column :]
                if name == "J":
                    del self.rows[self.row + 1 :]
            case _:
                pass  # the cursor's looks, modes, and questions about its place

    @property
    def text(self) -> str:
        """What is to be read, without spaces at the ends of lines and empty lines at the end."""
        lines = ("".join(letter for letter, _ in line).rstrip() for line in self.rows)
        return "\n".join(lines).rstrip() + "\n"

    def svg(self, title: str) -> str:
        """The picture. Each word stands at its own place, so that columns hold with any font."""
        lines = self.text.count("\n")
        width, height = int(self.columns * _WIDTH) + 2 * _MARGIN, lines * _HEIGHT + 2 * _MARGIN
        drawn = [piece for row in range(lines) for piece in self._drawn(row)]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">\n<title>{escape(title)}</title>\n'
            f"<desc>{escape(self.text)}</desc>\n<style>\n{_STYLE}</style>\n"
            f'<rect class="page" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>\n'
            + "".join(drawn)
            + "</svg>\n"
        )

    def _drawn(self, row: int) -> Iterator[str]:
        y = _MARGIN + row * _HEIGHT + _SIZE
        column = 0
        for pen, cells in groupby(self.rows[row], key=lambda cell: cell[1]):
            run = "".join(letter for letter, _ in cells)
            for word in re.finditer(r"\S+(?: \S+)*", run):
                x = _MARGIN + (column + word.start()) * _WIDTH
                length = len(word[0]) * _WIDTH
                style = f' class="{pen.classes}"' if pen.classes else ""
                yield (
                    f'<text x="{x:g}" y="{y}" textLength="{length:g}" lengthAdjust="spacingAndGlyphs"{style}>'
                    f"{escape(word[0])}</text>\n"
                )
            column += len(run)
