"""`qwenctl requests` and `qwenctl ps`: what the runner did and does, over a runner of scripted models."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.requests import HEADERS
from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import LoadOptions
from tests.cli.conftest import Command
from tests.runner.runner_builders import LONG, ask, eventually, service

PLACES = ("CONTEXT", "GPU", "MEMORY", "UNTIL")


@pytest.fixture
def runner(store_path: Path) -> Iterator[RunnerClient]:
    """A runner where the commands of this test look for it."""
    with service(load_settings(), records_bodies=True) as (client, _):
        yield client


def test_the_last_requests(qwenctl: Command, runner: RunnerClient) -> None:
    """A row for each: path, model, tokens, times, end; the newest last."""
    for text in ("hi", "hello"):
        list(runner.chat("echo", ask(text)))
    header, first, second = qwenctl("requests").out.splitlines()
    assert tuple(header.split()) == HEADERS
    assert first.split()[2:8] == ["/qwenctl/v1/chat", "echo", "200", "2", "0", "2"]
    assert second.split()[5:8] == ["5", "0", "5"]
    assert second.endswith("stop")
    assert [record["id"] for record in qwenctl("requests", "-n", "1", "--json").data["requests"]] == [2]


def test_one_that_runs(qwenctl: Command, runner: RunnerClient) -> None:
    """A request under way is in the list, without an end."""
    stream = runner.chat("slow", ask(LONG))
    next(stream)
    assert qwenctl("requests", "slow").out.rstrip().endswith("running")
    stream.close()  # type: ignore[attr-defined]


def test_texts_only_when_asked_for(qwenctl: Command, runner: RunnerClient) -> None:
    """`--bodies` shows the request and the answer; without it there is nothing of them."""
    list(runner.chat("echo", ask("hello you")))
    assert "hello you" not in qwenctl("requests").out
    shown = qwenctl("requests", "--bodies")
    assert shown.out.endswith("--- answer\nhello you\n")
    assert '"content":"hello you"' in shown.out


def test_no_texts_were_kept(qwenctl: Command, store_path: Path) -> None:
    """Then it says how to have them kept."""
    with service(load_settings()) as (client, _):
        list(client.chat("echo", ask("hello")))
        shown = qwenctl("requests", "--bodies")
    assert shown.status == 0
    assert "--record-bodies" in shown.err


def test_an_unknown_model(qwenctl: Command, runner: RunnerClient) -> None:
    """Exit status 3."""
    assert qwenctl("requests", "nowhere").status == 3


def test_no_runner(qwenctl: Command) -> None:
    """It is no fault: nothing was asked."""
    assert qwenctl("requests", "--json").data["requests"] == []


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_following_ends_with_the_interrupt(runner: RunnerClient, flags: tuple[str, ...]) -> None:
    """Each request is a line once it is over; Ctrl-C is status 130, and no word about it to a person."""
    list(runner.chat("echo", ask("before")))
    program = [sys.executable, "-m", "qwenctl", "requests", "-f", *flags]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [child.stdout.readline() for _ in range(1 if flags else 2)]
        list(runner.chat("other", ask("after")))
        seen.append(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (130, "")
    assert "echo" in seen[-2] and "other" in seen[-1]
    if flags:
        assert json.loads(out)["errors"][0]["code"] == "interrupted"
    else:
        assert out == ""


def test_ps_shows_what_is_loaded(qwenctl: Command, runner: RunnerClient) -> None:
    """Requests, those of them that wait, slots, context, memory, and until when it stays."""
    runner.load("slow", LoadOptions(slots=1, context_length=1500))
    streams = [runner.chat("slow", ask(LONG)) for _ in range(2)]
    next(streams[0])
    waiting = subprocess.Popen(
        [sys.executable, "-c", _WAITING.format(path=str(load_settings().runtime))],
        stdout=subprocess.DEVNULL,
    )
    eventually(lambda: [status.waiting for status in runner.loaded()] == [1])
    header, row = qwenctl("ps").out.splitlines()
    assert header.split() == [*("NAME", "ID", "STATE", "REQUESTS", "SLOTS"), *PLACES]
    assert "2, 1 wait  1      1500     -" in row
    assert row.endswith("in use")
    runner.stop()
    waiting.wait(10)


_WAITING = """
from pathlib import Path
from qwenctl.errors import QwenctlError
from qwenctl.runner.client import RunnerClient
from qwenctl.settings import Settings
from tests.runner.runner_builders import ask
path = Path({path!r})
try:
    list(RunnerClient(Settings(path, path, path)).chat("slow", ask("x")))
except QwenctlError:
    pass
"""
