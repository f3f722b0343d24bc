"""The pictures of the documents show what the program does."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from scripts.pictures import PICTURES, SCENES, Scene, play, stage
from scripts.terminal_picture import Terminal

BYTES_AT_MOST = 60_000


def in_words(text: str) -> list[str]:
    """What a picture says, line by line: without numbers, units, ids, bars and columns' widths."""
    text = re.sub(r": (runs|on the|fits|does).*", ": the verdict", text)  # this machine's
    text = re.sub(r"^Q8_0 · .*", "the plan", text, flags=re.MULTILINE)  # likewise
    text = re.sub(r"\b[0-9a-f]{12}\b", "an id", text)
    text = re.sub(r"[━╸╺█▓▒░·]+", "", text)
    text = re.sub(
        r"[\d.:]*\d|--:--|\b[KMGT]?i?B(?=\b)|\b(second|minute|hour|day|month)s? ago|just now", "0", text
    )
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.slow
def test_the_pictures_are_true(clean_environment: Path) -> None:
    """Each scene, played again, says what its picture says; `make pictures` draws them anew."""
    with stage(clean_environment):
        for scene in SCENES:
            root = ET.parse(PICTURES / f"{scene.name}.svg").getroot()
            drawn = root.findtext("{*}desc")
            assert drawn is not None
            assert in_words(play(scene).text) == in_words(drawn), scene.name


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_a_picture_is_small_and_needs_nothing_else(scene: Scene) -> None:
    """No scripts, no fonts, no addresses but that of SVG; both looks are in it."""
    text = (PICTURES / f"{scene.name}.svg").read_text()
    assert len(text.encode()) < BYTES_AT_MOST
    assert re.findall(r"https?://[^\"]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|@import|url\(|<image|<foreignObject", text)
    assert "prefers-color-scheme:dark" in text


class TestTerminal:
    """What is written, and where it then stands."""

    @pytest.mark.parametrize(
        ("written", "text"),
        [
            ("a\r\nb", "a\nb\n"),
            ("abc\rx", "xbc\n"),
            ("abc\r\x1b[Kx", "x\n"),
            ("one\r\ntwo\r\x1b[2K\x1b[1A\x1b[2Kx", "x\n"),
            ("a\x1b[3Cb\x1b[2Dc", "a  cb\n"),
            ("ab\b\x1b[31mc\x1b[0m", "ac\n"),
            ("a\r\nb\r\nc\x1b[2A\r\x1b[Jx", "x\n"),
            ("12345678901", "1234567890\n1\n"),
            ("\x1b[?25l\x1b[?2004h\x1b[6na", "a\n"),
        ],
    )
    def test_control_sequences(self, written: str, text: str) -> None:
        """Those of ECMA-48 that our program writes, in ten columns."""
        terminal = Terminal(10)
        terminal.write(written)
        assert terminal.text == text

    def test_colours_are_classes(self) -> None:
        """By name, from the palette, and none after a reset; letters that XML knows are escaped."""
        terminal = Terminal(20)
        terminal.write("\x1b[1;31mred\x1b[0m \x1b[38;5;70m<\x1b[0m \x1b[2mdim\x1b[0m")
        words = re.findall(r"spacingAndGlyphs\"(?: class=\"([\w ]+)\")?>([^<]+)<", terminal.svg("a & b"))
        assert words == [("red bold", "red"), ("green", "&lt;"), ("dim", "dim")]
        ET.fromstring(terminal.svg("a & b"))
