"""Sessions as people see them, against the transcripts in `tests/golden`; see `tests.cli.golden`."""

from pathlib import Path

import pytest

from tests.cli.golden import SETTINGS, path_of, play, settled


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_session(name: str, tmp_path: Path) -> None:
    """Every command says what the transcript has: status, stdout, stderr."""
    assert play(SETTINGS[name], tmp_path) == path_of(name).read_text()


def test_the_transcripts_are_of_no_colours() -> None:
    """Outside a terminal, and with `NO_COLOR`, nothing is styled."""
    for name in ("pipe", "no-color"):
        assert "\\e[" not in path_of(name).read_text()


def test_what_stays_on_a_screen() -> None:
    """Lines that are written over or cleared are gone; styles are spelled out."""
    assert settled("10 %\r20 %\r\x1b[Kdone\n") == "done"
    assert settled("a\nb\n\x1b[2A\x1b[2Kc\r\n") == "c\nb"
    assert settled("\x1b[?25l\x1b[1mx\x1b[0m\n") == "\\e[1mx"
