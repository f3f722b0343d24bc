"""Bars for a terminal and for a page."""

from xml.etree import ElementTree

import pytest

from qwenctl.cli.chart import Bar, Chart, draw, render_svg, rounded

CHART = Chart("speed", [Bar("one", 50.0, 40.0, 60.0), Bar("eleven", 100.0, 100.0, 100.0)])
SVG = "{http://www.w3.org/2000/svg}"


def test_bars_fill_the_width() -> None:
    """The longest takes all the room, the others their share; values are in one column."""
    assert draw(CHART, 40) == (
        "speed\n   one  █████████████               50.0\neleven  ██████████████████████████   100"
    )


def test_without_block_characters() -> None:
    """For encodings that have none."""
    assert draw(CHART, 40, ascii_only=True).splitlines()[2] == f"eleven  {'#' * 26}   100"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider(width: int) -> None:
    """But on a terminal that is too narrow for any bar."""
    assert max(map(len, draw(CHART, width).splitlines())) <= max(width, 26)


def test_nothing_was_measured_but_zeros() -> None:
    """Empty bars, no division by zero."""
    nothing = Chart("speed", [Bar("one", 0.0, 0.0, 0.0)])
    assert draw(nothing, 40).splitlines()[1].split() == ["one", "0.00"]
    ElementTree.fromstring(render_svg("t", [nothing]))


def test_svg_is_a_document_of_its_own() -> None:
    """It has a title, a bar and a spread for each value, and names no other address."""
    text = render_svg("a < b & c", [CHART, CHART])
    root = ElementTree.fromstring(text)
    assert root.findtext(f"{SVG}title") == "a < b & c"
    assert len(root.findall(f"{SVG}rect")) == len(root.findall(f"{SVG}line")) == 4
    assert "prefers-color-scheme:dark" in text
    assert text.count("http") == 1
    height = float(root.attrib["height"])
    assert all(float(rect.attrib["y"]) + 16 < height for rect in root.findall(f"{SVG}rect"))


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.12"), (9.876, "9.88"), (98.76, "98.8"), (1234.5, "1234")]
)
def test_three_digits(value: float, text: str) -> None:
    """Or all before the point."""
    assert rounded(value) == text


def test_one_measurement_has_no_spread() -> None:
    """The value stands alone."""
    assert [bar.spread for bar in CHART.bars] == ["50.0 (40.0 to 60.0)", "100"]
