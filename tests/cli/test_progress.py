"""How a copy looks while it runs, without a terminal."""

import io
import json

import pytest

from qwenctl.cli.output import Printer
from qwenctl.cli.progress import BarProgress, CalmProgress, JsonProgress
from qwenctl.flows.copy import BlobFinished, BlobProgress, BlobSkipped, BlobStarted
from qwenctl.oci.descriptor import Descriptor

BLOB = Descriptor.of(b"x" * 1000, "x/y")
MIB = 1 << 20
LARGE = Descriptor("x/y", BLOB.digest, 100 * MIB)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """Not one for every megabyte; what is quick says nothing."""
    clock = Clock()
    with CalmProgress(clock) as observe:
        observe(BlobStarted(LARGE, 0))
        for step in range(1, 41):
            clock.now = step * 0.5
            observe(BlobProgress(LARGE, step * MIB))
        observe(BlobFinished(LARGE, 40 * MIB))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "20.0 MiB of 100 MiB (2.00 MiB/s)",
        "40.0 MiB of 100 MiB (2.00 MiB/s)",
    ]


def test_a_resumed_blob_says_so_and_its_rate_counts_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    """What was kept from an earlier attempt is not speed."""
    clock = Clock()
    observe = CalmProgress(clock)
    observe(BlobStarted(LARGE, 50 * MIB))
    clock.now = 10.0
    observe(BlobProgress(LARGE, 60 * MIB))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("resumed at 50.0 MiB")
    assert lines[1] == "60.0 MiB of 100 MiB (1.00 MiB/s)"


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Start, progress at most twice a second, end; presence is an event too."""
    clock = Clock()
    clock.now = 100.0
    with JsonProgress(Printer("pull", as_json=True), clock) as observe:
        observe(BlobStarted(BLOB, 300))
        for step in range(1, 8):
            clock.now += 0.125
            observe(BlobProgress(BLOB, 300 + step * 100))
        observe(BlobFinished(BLOB, 700))
        observe(BlobSkipped(LARGE))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["event"], line["position"]) for line in lines] == [
        ("started", 300),
        ("progress", 400),
        ("progress", 800),
        ("finished", 1000),
        ("present", 100 * MIB),
    ]
    assert lines[0]["resumed_at"] == 300


def test_bars_are_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to stderr, never backwards, and leave a clean line."""
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    with BarProgress() as observe:
        observe(BlobStarted(BLOB, 300))
        observe(BlobProgress(BLOB, 600))
        observe(BlobFinished(BLOB, 700))
        observe(BlobSkipped(LARGE))
    assert "Traceback" not in screen.getvalue()
