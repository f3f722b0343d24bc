"""How a check of the store looks while it runs."""

import json

import pytest

from qwenctl.cli.check_progress import BarCheck, CalmCheck, JsonCheck, watch_check
from qwenctl.cli.output import Printer
from qwenctl.flows.verify import BlobChecked, CheckEvent, CheckFinished, CheckProgress, CheckStarted
from qwenctl.oci.digest import Digest
from qwenctl.store.check import State

MIB = 1 << 20
DIGEST = Digest.of(b"x")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run() -> list[tuple[float, CheckEvent]]:
    """A check of 100 MiB that takes 25 seconds, with its moments."""
    steps: list[tuple[float, CheckEvent]] = [(0.0, CheckStarted(1, 100 * MIB))]
    steps += [(step * 0.25, CheckProgress(step * MIB)) for step in range(1, 101)]
    return [*steps, (25.0, BlobChecked(DIGEST, 100 * MIB, State.OK)), (25.0, CheckFinished())]


def test_a_log_gets_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """How much of how much, and how fast."""
    clock = Clock()
    with CalmCheck(clock) as observe:
        for clock.now, event in run():
            observe(event)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "checked 40.0 MiB of 100 MiB (4.00 MiB/s)",
        "checked 80.0 MiB of 100 MiB (4.00 MiB/s)",
    ]


def test_a_program_gets_a_line_for_each_blob(capsys: pytest.CaptureFixture[str]) -> None:
    """And at most two a second on the way."""
    clock = Clock()
    with JsonCheck(Printer("verify", as_json=True), clock) as observe:
        for clock.now, event in run():
            observe(event)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"event": "started", "position": 0, "size": 100 * MIB}
    assert lines[-1] == {"event": "checked", "digest": str(DIGEST), "size": 100 * MIB, "state": "ok"}
    assert [line["position"] for line in lines[1:-1]] == [step * MIB for step in range(2, 101, 2)]


def test_a_bar_ends_with_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    """What is fetched afterwards has a display of its own; without a terminal nothing is drawn."""
    with BarCheck() as observe:
        for _, event in run():
            observe(event)
    assert capsys.readouterr().out == ""


def test_the_display_fits_the_streams() -> None:
    """JSON lines for a program, calm lines without a terminal."""
    assert isinstance(watch_check(Printer("verify", as_json=True)), JsonCheck)
    assert isinstance(watch_check(Printer("verify", as_json=False)), CalmCheck)
