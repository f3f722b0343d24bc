"""Bars, as characters for a terminal and as SVG for a page: one look for whatever is measured. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

_FULL: Final = "█"
_PARTS: Final = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_LEAST_BAR: Final = 10  # columns; a narrower chart is cut off by the terminal, not by us


@dataclass(frozen=True, slots=True)
class Bar:
    """A measured value with its label, and how far single measurements were from it."""

    label: str
    value: float
    low: float
    high: float

    @property
    def spread(self) -> str:
        """`12.3 (11.9 to 12.8)`; the value alone where there was one measurement."""
        if self.low == self.high:
            return rounded(self.value)
        return f"{rounded(self.value)} ({rounded(self.low)} to {rounded(self.high)})"


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one unit under a title."""

    title: str
    bars: Sequence[Bar]


def rounded(value: float) -> str:
    """Three digits of a number, or all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw(chart: Chart, width: int, *, ascii_only: bool = False) -> str:
    """The chart in `width` columns: labels, bars, values. No colours, no control sequences."""
    labels = max(len(bar.label) for bar in chart.bars)
    values = max(len(rounded(bar.value)) for bar in chart.bars)
    room = max(_LEAST_BAR, width - labels - values - 4)
    longest = max(bar.value for bar in chart.bars) or 1.0
    lines = [chart.title]
    for bar in chart.bars:
        drawn = _bar(bar.value / longest * room, ascii_only)
        lines.append(f"{bar.label.rjust(labels)}  {drawn.ljust(room)}  {rounded(bar.value).rjust(values)}")
    return "\n".join(lines)


def _bar(columns: float, ascii_only: bool) -> str:
    if ascii_only:
        return "#" * round(columns)
    whole = int(columns)
    return _FULL * whole + _PARTS[int((columns - whole) * len(_PARTS))]


_WIDTH: Final = 720
_LABEL: Final = 220  # where bars begin
_VALUE: Final = 150  # what is kept free behind the longest for its value
_ROW: Final = 22
_HEAD: Final = 34
_STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}"
    ".t{font-weight:600;font-size:15px}.v{fill:#57606a}.b{fill:#3b6fb6}.w{stroke:#24292f;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.v{fill:#9da7b3}.b{fill:#6ea0e4}.w{stroke:#e6edf3}}"
)
"""Without a background: it lies on the page's own, light or dark, and the ink follows the reader's scheme."""


def render_svg(title: str, charts: Sequence[Chart]) -> str:
    """All charts, one below the other, as one SVG document; a line on each bar shows its spread."""
    body, top = [], _HEAD
    for chart in charts:
        body += [f'<text class="t" x="0" y="{top}">{escape(chart.title)}</text>']
        longest = max(bar.high for bar in chart.bars) or 1.0
        scale = (_WIDTH - _LABEL - _VALUE) / longest
        for row, bar in enumerate(chart.bars):
            body += _svg_bar(bar, top + 12 + row * _ROW, scale)
        top += 12 + len(chart.bars) * _ROW + _HEAD
    height = top - 12
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 -20 {_WIDTH} {height + 20}" role="img">'
    )
    lines = [head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>"]
    lines += [f'<text class="v" x="0" y="0">{escape(title)}</text>', *body, "</svg>"]
    return "\n".join(lines) + "\n"


def _svg_bar(bar: Bar, top: int, scale: float) -> list[str]:
    middle, text = top + 8, top + 13
    low, high = _LABEL + bar.low * scale, _LABEL + bar.high * scale
    return [
        f'<text x="{_LABEL - 8}" y="{text}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect class="b" x="{_LABEL}" y="{top}" width="{bar.value * scale:.1f}" height="16" rx="2"/>',
        f'<line class="w" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        f'<text class="v" x="{high + 8:.1f}" y="{text}">{escape(bar.spread)}</text>',
    ]
