"""Client, runner, worker and llama.cpp together, on a tiny real model."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenctl.errors import InvalidRequest, LoadFailed, WorkerDied
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.supervisor import WORKER_ARGV
from qwenctl.runtime.engine import ChatRequest, Message
from qwenctl.runtime.events import Finished, PromptProcessed
from qwenctl.runtime.sampling import Sampling
from tests.runner.runner_builders import Files, service, settings_in, text_of
from tests.runtime.runtime_builders import write_tiny_model

GREEDY = Sampling(temperature=0)
Running = tuple[RunnerClient, str]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and a file that is none."""
    made = tmp_path_factory.mktemp("models")
    write_tiny_model(made / "tiny.gguf", context_length=4096)
    write_tiny_model(made / "other.gguf", seed=8)
    (made / "damaged.gguf").write_bytes((made / "tiny.gguf").read_bytes()[:1000])
    return made


@pytest.fixture
def running(directory: Path, tmp_path: Path) -> Iterator[Running]:
    """A runner with real workers, and its address."""
    with service(settings_in(tmp_path), Files(directory), worker_argv=WORKER_ARGV, port=0) as (client, ready):
        yield client, str(ready.url)


def asking(text: str, max_tokens: int = 40) -> ChatRequest:
    """A request with one answer only."""
    return ChatRequest(messages=(Message("user", text),), sampling=GREEDY, max_tokens=max_tokens)


def over_http(url: str, text: str, stream: bool) -> str:
    """The same request through OpenAI's door."""
    body: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 40,
        "stream": stream,
    }
    response = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
    assert response.status_code == 200
    if not stream:
        return str(response.json()["choices"][0]["message"]["content"])
    lines = [line.removeprefix("data: ") for line in response.text.split("\n") if line.startswith("data: {")]
    choices = [httpx.Response(200, text=line).json()["choices"][0] for line in lines]
    return "".join(choice["delta"].get("content", "") for choice in choices)


def test_every_door_gives_the_same_text(running: Running) -> None:
    """The command line's stream, OpenAI's stream and its whole answer are one text, also side by side."""
    client, url = running
    events = list(client.chat("tiny", asking("hello")))
    assert isinstance(events[0], PromptProcessed)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "length"
    with ThreadPoolExecutor() as pool:
        texts = list(pool.map(lambda number: over_http(url, "hello", stream=number % 2 == 0), range(6)))
    assert {*texts, text_of(events)} == {text_of(events)}


def test_a_schema_holds_at_every_door(running: Running) -> None:
    """A model that talks at random follows the schema, through OpenAI's, Docker's and Ollama's addresses."""
    _, url = running
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}}
    schema["required"] = ["n", "ok"]
    turns = [{"role": "user", "content": "hello"}]
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    body = {"model": "tiny", "messages": turns, "seed": 3, "response_format": form}
    texts = []
    for path in ("/v1", "/engines/v1", "/engines/llama.cpp/v1"):
        answer = httpx.post(f"{url}{path}/chat/completions", json=body, timeout=30).json()
        assert answer["choices"][0]["finish_reason"] == "stop"
        texts.append(answer["choices"][0]["message"]["content"])
    options = {"seed": 3, "top_p": 0.95}
    body = {"model": "tiny", "messages": turns, "format": schema, "options": options, "stream": False}
    texts.append(httpx.post(f"{url}/api/chat", json=body, timeout=30).json()["message"]["content"])
    assert len(set(texts)) == 1
    assert {key: type(value) for key, value in json.loads(texts[0]).items()} == {"n": int, "ok": bool}


@pytest.mark.parametrize("seed", range(4))
def test_a_call_can_be_demanded(running: Running, seed: int) -> None:
    """Even a model that talks at random calls the demanded tool, once, with arguments by its schema."""
    _, url = running
    parameters = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in ("wait", "go")
    ]
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "seed": seed}
    for choice, names in (("required", {"wait", "go"}), ({"function": {"name": "go"}}, {"go"})):
        asked = body | {"tools": tools, "tool_choice": choice, "parallel_tool_calls": False}
        answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=30).json()["choices"][0]
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["name"] in names
        assert isinstance(json.loads(call["function"]["arguments"])["days"], int)
        assert answer["finish_reason"] == "tool_calls"


def test_a_broken_grammar_is_the_callers_fault(running: Running) -> None:
    """The request is refused with 400 and llama.cpp's reason; the next one is answered."""
    _, url = running
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
    refused = httpx.post(
        f"{url}/v1/chat/completions", json=body | {"grammar": "root ::= nowhere"}, timeout=30
    )
    assert refused.status_code == 400
    assert "grammar" in refused.json()["error"]["message"]
    assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30).status_code == 200


def test_two_real_models_one_dies(running: Running) -> None:
    """SIGKILL of one worker in mid-answer leaves the other model alone; the next request loads it again."""
    client, _ = running
    before = text_of(list(client.chat("tiny", asking("hello"))))
    stream = client.chat("tiny", asking("hello", max_tokens=4000))
    next(stream)
    assert text_of(list(client.chat("other", asking("hello"))))
    pids = {status.name: status.pid or 0 for status in client.loaded()}
    os.kill(pids["tiny"], signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(stream)
    assert text_of(list(client.chat("tiny", asking("hello")))) == before
    after = {status.name: status.pid for status in client.loaded()}
    assert after["other"] == pids["other"]
    assert after["tiny"] != pids["tiny"]


def test_load_reports_what_was_opened(running: Running) -> None:
    """The status of a loaded model has the engine's own description, and the memory of its process."""
    client, _ = running
    status = client.load("tiny", LoadOptions(context_length=512, slots=2))
    assert status.model is not None
    assert (status.model.architecture, status.model.context_length, status.model.slots) == ("qwen2", 512, 2)
    assert status.resident_bytes is not None
    assert status.resident_bytes > status.model.weights_bytes


def test_refusals_come_from_the_engine(running: Running) -> None:
    """A damaged file is LoadFailed, an impossible request InvalidRequest; the runner goes on."""
    client, url = running
    with pytest.raises(LoadFailed):
        client.load("damaged")
    request = ChatRequest(
        messages=(Message("user", "x"),), tool_choice="required", tools=({"type": "function"},)
    )
    with pytest.raises(InvalidRequest):
        list(client.chat("tiny", request))
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
