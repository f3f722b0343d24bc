"""Running the guide model for real: store, runner, worker, llama.cpp."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.cli.conftest import Command

QUESTION = "How do I remove a model?"


@pytest.fixture(autouse=True)
def runner_ends(store_path: Path) -> Iterator[None]:
    """No runner outlives its test."""
    yield
    settings = load_settings()
    runner = RunnerClient.running(settings)
    if runner is None:
        return
    runner.stop()
    runner.shutdown()
    deadline = time.monotonic() + 15
    while RunnerClient.running(settings) is not None:
        assert time.monotonic() < deadline, "the runner does not leave"
        time.sleep(0.02)


def test_a_question_is_answered_rightly_and_the_same_every_time(qwenctl: Command) -> None:
    """The model is pulled, loaded and asked; greedy sampling gives one answer."""
    first = qwenctl("run", "guide", QUESTION, "--temperature", "0")
    assert first.status == 0
    assert "qwenctl rm" in first.out
    assert first.out.endswith("\n") and first.out.count("\n") == 1
    assert {qwenctl("run", "guide", QUESTION, "--temperature", "0").out for _ in range(3)} == {first.out}


def test_a_pipe_gets_the_answer_alone(qwenctl: Command) -> None:
    """Text on stdin is the prompt; with a prompt it comes behind it."""
    assert "qwenctl rm" in qwenctl("run", "guide", "--temperature", "0", piped=f"{QUESTION}\n").out
    assert qwenctl("run", "guide", "Answer this:", piped=QUESTION).status == 0


def test_json(qwenctl: Command) -> None:
    """One document with the text, why it ended, and what it cost."""
    data = qwenctl("run", "guide", QUESTION, "--max-tokens", "3", "--json").data
    assert data["model"] == "guide"
    assert data["reason"] == "length"
    assert data["usage"]["completion_tokens"] == 3


def test_nothing_to_ask(qwenctl: Command) -> None:
    """Without a terminal and without a question there is nothing to do."""
    shown = qwenctl("run", "guide", piped="\n \n")
    assert (shown.status, shown.out) == (2, "")
    assert "nothing to ask" in shown.err


def test_loaded_models_are_listed_protected_and_stopped(qwenctl: Command) -> None:
    """`ps` shows it, `rm` refuses, `stop` unloads, then `rm` removes."""
    qwenctl("run", "guide", QUESTION)
    loaded = qwenctl("ps", "--json").data["models"]
    assert [(model["name"], model["state"]) for model in loaded] == [("guide", "ready")]
    assert "guide" in qwenctl("ps").out
    refused = qwenctl("rm", "guide")
    assert refused.status == 2
    assert "qwenctl stop guide" in refused.err
    assert qwenctl("status", "--json").data["runner"]["models"] == 1
    assert qwenctl("stop", "guide").out == "stopped guide\n"
    assert qwenctl("ps", "--json").data["models"] == []
    assert qwenctl("rm", "guide").status == 0


def test_a_prompt_that_is_too_long(qwenctl: Command) -> None:
    """Exit status 7 with both numbers."""
    shown = qwenctl("run", "guide", "model " * 5000)
    assert shown.status == 7
    assert "2048" in shown.err


def test_a_context_that_was_asked_for(qwenctl: Command) -> None:
    """`--context` loads the model with it."""
    assert qwenctl("run", "guide", QUESTION, "--context", "512").status == 0
    loaded = qwenctl("ps", "--json").data["models"][0]["model"]
    assert loaded["context_length"] == 512


def test_serve_answers_over_tcp(store_path: Path, qwenctl: Command) -> None:
    """`qwenctl serve` is the OpenAI API on loopback, until it is interrupted."""
    import json
    import signal
    import urllib.request

    qwenctl("pull", "guide")
    with subprocess.Popen(
        [sys.executable, "-m", "qwenctl", "serve", "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(f"{url}/v1/models") as answer:
            assert [model["id"] for model in json.load(answer)["data"]] == ["guide"]
        body = {"model": "guide", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            assert "qwenctl rm" in json.load(answer)["choices"][0]["message"]["content"]
        server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0


def test_a_simulated_machine_loads_nothing(qwenctl: Command, tmp_path: Path, store_path: Path) -> None:
    """`--host` is refused, whether or not there is such a profile, and nothing is pulled or started."""
    for path in (tmp_path / "absent.yaml", tmp_path):
        shown = qwenctl("run", "guide", QUESTION, "--host", str(path))
        assert (shown.status, shown.out) == (2, "")
        assert f"hint: `qwenctl fit guide --host {path}`" in shown.err
    assert qwenctl("list", "--json").data["models"] == []
    assert qwenctl("status", "--json").data["runner"] is None


@pytest.mark.parametrize("kind", ["q9", "", "f8", "iq4_nl"])
def test_a_cache_of_no_known_type(qwenctl: Command, kind: str) -> None:
    """Exit status 2 with the types that there are, before anything is pulled."""
    shown = qwenctl("run", "guide", QUESTION, "--kv", kind)
    assert (shown.status, shown.out) == (2, "")
    assert "hint: it is one of f32, f16" in shown.err
    assert qwenctl("list", "--json").data["models"] == []


def test_a_quantized_cache(qwenctl: Command) -> None:
    """`--kv q8_0`, in any case, loads the model with half a cache."""
    assert qwenctl("run", "guide", QUESTION, "--context", "512").status == 0
    half = qwenctl("ps", "--json").data["models"][0]["model"]["memory"]["host"]["kv_cache"]
    assert qwenctl("run", "guide", QUESTION, "--context", "512", "--kv", "Q8_0").status == 0
    assert qwenctl("ps", "--json").data["models"][0]["model"]["memory"]["host"]["kv_cache"] < half * 0.6
