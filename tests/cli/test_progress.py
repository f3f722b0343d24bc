"""How a copy looks while it runs, without a terminal."""

import io
import json
import re

import pytest

from qwenctl.cli.output import Printer
from qwenctl.cli.progress import BarProgress, CalmProgress, JsonProgress
from qwenctl.cli.standing import Standing
from qwenctl.flows.copy import (
    BlobFinished,
    BlobProgress,
    BlobShared,
    BlobSkipped,
    BlobsPlanned,
    BlobStarted,
)
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
    """What is planned; start, progress at most twice a second, end; presence is an event too."""
    clock = Clock()
    clock.now = 100.0
    with JsonProgress(Printer("pull", as_json=True), clock) as observe:
        observe(BlobsPlanned(2, BLOB.size + LARGE.size))
        observe(BlobStarted(BLOB, 300))
        for step in range(1, 8):
            clock.now += 0.125
            observe(BlobProgress(BLOB, 300 + step * 100))
        observe(BlobFinished(BLOB, 700))
        observe(BlobSkipped(LARGE))
    planned, *lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert planned == {"event": "planned", "blobs": 2, "size": BLOB.size + LARGE.size}
    assert [(line["event"], line["position"]) for line in lines] == [
        ("started", 300),
        ("progress", 400),
        ("progress", 800),
        ("verifying", 1000),
        ("finished", 1000),
        ("present", 100 * MIB),
    ]
    assert lines[0]["resumed_at"] == 300


def test_what_is_there_counts_but_is_no_speed(capsys: pytest.CaptureFixture[str]) -> None:
    """The line is on the whole content: with what was there, which took no time."""
    clock = Clock()
    observe = CalmProgress(clock)
    observe(BlobsPlanned(2, LARGE.size + BLOB.size))
    observe(BlobSkipped(BLOB))
    observe(BlobStarted(LARGE, 0))
    clock.now = 10.0
    observe(BlobProgress(LARGE, 20 * MIB))
    assert capsys.readouterr().err == "20.0 MiB of 100 MiB (2.00 MiB/s)\n"


def test_a_position_never_goes_back() -> None:
    """One process takes over from another, and has a little less than that one told."""
    standing = Standing()
    standing.take(BlobShared(LARGE, 60 * MIB))
    standing.take(BlobStarted(LARGE, 40 * MIB))
    standing.take(BlobProgress(LARGE, 50 * MIB))
    assert standing.position(LARGE.digest) == standing.done_bytes == 60 * MIB
    standing.take(BlobProgress(LARGE, 70 * MIB))
    assert standing.done_bytes - standing.kept_bytes == 10 * MIB


def test_bars_tell_the_whole_and_the_verifying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the blobs that move is one bar for all; with its last byte there, a blob is verified."""
    other = Descriptor.of(b"y" * 10, "x/y")
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with BarProgress() as observe:
        observe(BlobsPlanned(2, BLOB.size + other.size))
        observe(BlobSkipped(other))
        observe(BlobStarted(BLOB, 300))
        observe.redraw()
        observe(BlobProgress(BLOB, BLOB.size))
        observe.redraw()
        observe(BlobFinished(BLOB, 700))
    shown = screen.getvalue()
    assert "1/2 blobs" in shown
    assert shown.index("resumed") < shown.index("verifying")


@pytest.mark.parametrize(("columns", "told"), [(80, "B/s"), (40, "resumed"), (24, "2")])
def test_bars_stay_on_one_line_each(monkeypatch: pytest.MonkeyPatch, columns: int, told: str) -> None:
    """However narrow the terminal is; three columns stay free for what it echoes itself at Ctrl-C."""
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    other = Descriptor.of(b"y" * 10, "x/y")
    with BarProgress() as observe:
        observe(BlobsPlanned(2, LARGE.size + other.size))
        observe(BlobStarted(LARGE, 50 * MIB))
        observe(BlobStarted(other, 0))
        for step in range(51, 60):
            observe(BlobProgress(LARGE, step * MIB))
        screen.seek(0)
        screen.truncate()
        observe.redraw()
        drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", screen.getvalue())
    lines = drawn.strip("\n").splitlines()
    assert len(lines) == 3
    assert all(len(line) <= columns - 3 for line in lines)
    assert told in drawn


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
