"""`qwenctl bench` over a real runner, with scripted workers: a token is a character."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import LoadOptions
from tests.cli.conftest import Command
from tests.cli.schemas import check_output
from tests.cli.scripted_models import scripted_models
from tests.runner.runner_builders import LONG, ask, eventually

SMALL = ("--concurrency", "1,3", "--prompt-tokens", "60,120", "--rounds", "2", "--generate-tokens", "5")


@pytest.fixture(autouse=True)
def runner(store_path: Path) -> Iterator[RunnerClient]:
    """Scripted models and their runner."""
    with scripted_models(store_path) as client:
        yield client


def test_every_sample_is_told(qwenctl: Command) -> None:
    """Each case with all its rounds and requests; answers of the wished length, prompts about so."""
    shown = qwenctl("bench", "echo", *SMALL, "--json")
    assert (shown.status, shown.err) == (0, "")
    check_output("bench", shown.out)
    cases = [(r["concurrency"], r["requested_prompt_tokens"], r["rounds"]) for r in shown.data["results"]]
    assert cases == [(1, 60, 2), (3, 60, 2), (1, 120, 2), (3, 120, 2)]
    samples = shown.data["samples"]
    assert len(samples) == 2 * 2 * (1 + 3)
    assert {sample["completion_tokens"] for sample in samples} == {5}
    assert all(abs(s["prompt_tokens"] - s["requested_prompt_tokens"]) < 40 for s in samples)
    assert all(0 <= s["first_token_seconds"] <= s["seconds"] for s in samples)


def test_a_person_gets_a_table_and_bars(qwenctl: Command) -> None:
    """A row and two bars for each case, no control characters, progress on stderr."""
    shown = qwenctl("bench", "echo", *SMALL)
    assert shown.status == 0
    lines = shown.out.splitlines()
    assert lines[2].split()[:2] == ["REQUESTS", "PROMPT"]
    assert [line.split()[0] for line in lines[3:7]] == ["1", "3", "1", "3"]
    bars = [line for line in lines if " at once, " in line]
    assert len(bars) == 8
    assert max(map(len, bars)) <= 80
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown.out + shown.err)
    assert shown.err.splitlines()[:2] == ["warming up", "1/4: 1 at once, 60 tokens"]


def test_a_chart_is_drawn(qwenctl: Command, tmp_path: Path) -> None:
    """A bar for each case and speed."""
    path = tmp_path / "speed.svg"
    shown = qwenctl("bench", "echo", *SMALL, "--svg", str(path))
    assert f"drawn into {path}" in shown.err
    root = ElementTree.parse(path).getroot()
    assert len(root.findall("{http://www.w3.org/2000/svg}rect")) == 8


def test_slots_for_all_requests(qwenctl: Command, runner: RunnerClient) -> None:
    """A model with fewer is loaded with more; one that has enough stays as it is."""
    runner.load("echo", LoadOptions(slots=2))
    few = ("--rounds", "1", "--prompt-tokens", "60", "--generate-tokens", "2")
    assert qwenctl("bench", "echo", "--concurrency", "6", *few, "--json").data["slots"] == 6
    pid = runner.loaded()[0].pid
    assert qwenctl("bench", "echo", "--concurrency", "2", *few, "--json").data["slots"] == 6
    assert runner.loaded()[0].pid == pid


def test_a_model_at_work_keeps_its_slots(qwenctl: Command, runner: RunnerClient) -> None:
    """Status 2: who works on it is not thrown out."""
    runner.load("slow", LoadOptions(slots=1))
    answer = runner.chat("slow", ask(LONG))
    next(answer)
    shown = qwenctl("bench", "slow", "--concurrency", "3")
    assert (shown.status, shown.out) == (2, "")
    answer.close()  # type: ignore[attr-defined]
    eventually(lambda: not any(status.requests for status in runner.loaded()))


def test_a_fixed_prompt_and_a_duration(qwenctl: Command) -> None:
    """Docker's options: the prompt is asked behind other words; rounds go on for so long."""
    arguments = ("--prompt", "Why is the sky blue?", "--duration", "0s", "--concurrency", "1")
    data = qwenctl("bench", "echo", *arguments, "--generate-tokens", "2", "--json").data
    assert len(data["samples"]) == 1
    assert data["samples"][0]["prompt_tokens"] > len("Why is the sky blue?")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("guide:nope",), 3),
        (("echo", "--concurrency", "0"), 2),
        (("echo", "--concurrency", "1000"), 2),
        (("echo", "--prompt-tokens", "x"), 2),
        (("echo", "--generate-tokens", "1"), 2),
        (("echo", "--duration", "soon"), 2),
        (("echo", "--svg", "/nowhere/a.svg"), 3),
        (("echo", "--context", "64", "--prompt-tokens", "500"), 7),
        (("refused",), 7),
        (("slow", "--timeout", "0s"), 7),
    ],
)
def test_what_cannot_be_measured(qwenctl: Command, arguments: tuple[str, ...], status: int) -> None:
    """Nothing on stdout, and the reason."""
    shown = qwenctl("bench", *arguments)
    assert (shown.status, shown.out) == (status, "")
    assert "error: " in shown.err


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_ctrl_c_keeps_what_was_measured(runner: RunnerClient, flags: tuple[str, ...]) -> None:
    """Status 130, with the table, or the data of the failure; the model is left alone."""
    arguments = ["--rounds", "9999", "--concurrency", "1", "--prompt-tokens", "60", "--generate-tokens", "3"]
    with subprocess.Popen(
        [sys.executable, "-m", "qwenctl", "bench", "slow", *arguments, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        eventually(lambda: len(runner.requests("slow")) > 4)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    if flags:
        check_output("bench", out)
        document = json.loads(out)
        assert (document["errors"][0]["code"], err) == ("interrupted", "")
        assert document["data"]["samples"]
    else:
        assert "tokens per second" in out
        assert err.endswith("error: interrupted\n")
    eventually(lambda: not any(status.requests for status in runner.loaded()))
