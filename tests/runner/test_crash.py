"""`kill -9` of a real worker in mid-stream: a clean error at every door, and the next request loads again."""

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenctl.errors import WorkerDied
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.supervisor import WORKER_ARGV
from qwenctl.runtime.engine import ChatRequest, Message
from qwenctl.runtime.events import Finished
from qwenctl.runtime.sampling import Sampling
from tests.runner.runner_builders import Files, eventually, service, settings_in, text_of
from tests.runtime.runtime_builders import write_tiny_model

LONG = 4000  # tokens: no answer ends by itself while the test runs
Running = tuple[RunnerClient, str]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A runner with a tiny real model, and its address."""
    write_tiny_model(tmp_path / "tiny.gguf", context_length=8192)
    with service(settings_in(tmp_path), Files(tmp_path), worker_argv=WORKER_ARGV, port=0) as (client, ready):
        yield client, str(ready.url)


def kill(client: RunnerClient) -> None:
    """SIGKILL to the worker of the one model."""
    [status] = client.loaded()
    os.kill(status.pid or 0, signal.SIGKILL)


def body(**fields: Any) -> dict[str, Any]:
    """A request for a long answer."""
    turns = [{"role": "user", "content": "hello"}]
    return {"model": "tiny", "messages": turns, "temperature": 0, "max_tokens": LONG, "stream": True} | fields


def asked(max_tokens: int) -> ChatRequest:
    """The same over the private socket."""
    turns = (Message("user", "hello"),)
    return ChatRequest(messages=turns, sampling=Sampling(temperature=0), max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("path", "fields", "read"),
    [
        (
            "/v1/chat/completions",
            {},
            lambda lines: json.loads(lines[-1].removeprefix("data: "))["error"]["code"],
        ),
        ("/api/chat", {"options": {"num_predict": LONG}}, lambda lines: json.loads(lines[-1])["error"]),
        (
            "/v1/messages",
            {},
            lambda lines: json.loads(lines[-1].removeprefix("data: "))["error"]["message"],
        ),
    ],
    ids=["openai", "ollama", "anthropic"],
)
def test_a_stream_ends_with_the_doors_error(
    running: Running, path: str, fields: dict[str, Any], read: Any
) -> None:
    """The stream is whole HTTP; its last event is the error in the door's shape, and no end of an answer."""
    client, url = running
    with httpx.stream("POST", f"{url}{path}", json=body(**fields), timeout=30) as answer:
        lines = answer.iter_lines()
        seen = [next(lines)]
        kill(client)
        seen += lines
    assert answer.status_code == 200
    assert "worker" in read([line for line in seen if line])
    assert "data: [DONE]" not in seen
    whole = httpx.post(f"{url}/v1/chat/completions", json=body(stream=False, max_tokens=5), timeout=30)
    assert whole.json()["usage"]["completion_tokens"] == 5


def test_the_command_lines_door(running: Running) -> None:
    """Its client raises the error of the worker, with where to look, and the next answer is as ever."""
    client, _ = running
    before = text_of(list(client.chat("tiny", asked(8))))
    stream = client.chat("tiny", asked(LONG))
    next(stream)
    kill(client)
    with pytest.raises(WorkerDied, match="SIGKILL") as caught:
        list(stream)
    assert "runner.log" in str(caught.value.hint)
    events = list(client.chat("tiny", asked(8)))
    assert text_of(events) == before
    assert isinstance(events[-1], Finished)


def test_a_whole_answer_gets_a_status(running: Running) -> None:
    """Who waits for the whole answer gets 503 in the shape of the door, and it is in the list of requests."""
    client, url = running
    client.load("tiny")
    with ThreadPoolExecutor(1) as beside:
        waiting = beside.submit(httpx.post, f"{url}/v1/chat/completions", json=body(stream=False), timeout=30)
        eventually(lambda: any(record.first_token_seconds for record in client.requests()))
        kill(client)
        answer = waiting.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_died")
    record = client.requests()[-1]
    assert (record.ended, record.status, record.model) == ("worker_died", 503, "tiny")
