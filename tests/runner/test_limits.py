"""What a runner takes on: bytes, requests that wait, time, models."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenctl.api.exchange import BODY_LIMIT_BYTES
from qwenctl.errors import Overloaded, TimedOut
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import LoadOptions
from tests.runner.runner_builders import LONG, ask, eventually, service, settings_in, text_of

Running = tuple[RunnerClient, str]


@contextmanager
def limited(directory: Path, **limits: Any) -> Iterator[Running]:
    """A runner with these settings, and its address."""
    with service(replace(settings_in(directory), **limits), port=0) as (client, ready):
        yield client, str(ready.url)


def body(**fields: Any) -> dict[str, Any]:
    """A request that takes nine seconds."""
    return {"model": "slow", "messages": [{"role": "user", "content": LONG}], **fields}


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    """Beyond its slots and its queue a model takes no request: 503 in the door's shape, with Retry-After."""
    with limited(tmp_path, max_queue=1) as (client, url), ExitStack() as streams:
        client.load("slow", LoadOptions(slots=1))
        for _ in range(2):
            stream = client.chat("slow", ask(LONG))
            streams.callback(stream.close)  # type: ignore[attr-defined]
            streams.enter_context(ThreadPoolExecutor(1)).submit(next, stream)
        eventually(lambda: client.status().requests == 2)
        assert [status.waiting for status in client.loaded()] == [1]
        answer = httpx.post(f"{url}/v1/chat/completions", json=body())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"]["code"] == "overloaded"
        assert httpx.post(f"{url}/api/chat", json=body()).headers["retry-after"] == "5"
        with pytest.raises(Overloaded):
            list(client.chat("slow", ask("x")))
        client.stop()


def test_a_request_has_so_much_time(tmp_path: Path) -> None:
    """An answer that takes longer ends with its door's error, streamed or whole; its slot is free again."""
    with limited(tmp_path, request_timeout_seconds=0.5) as (client, url):
        whole = httpx.post(f"{url}/v1/chat/completions", json=body(), timeout=20)
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "timed_out")
        streamed = httpx.post(f"{url}/v1/chat/completions", json=body(stream=True), timeout=20)
        assert streamed.status_code == 200
        assert '"timed_out"' in streamed.text.rstrip().rpartition("\n\n")[2]
        with pytest.raises(TimedOut):
            list(client.chat("slow", ask(LONG)))
        eventually(lambda: client.status().requests == 0)
        assert text_of(list(client.chat("slow", ask("quick")))) == "quick"


def test_loading_counts(tmp_path: Path) -> None:
    """Who waits for a model that takes long to load waits no longer than a request may."""
    with limited(tmp_path, request_timeout_seconds=0.3) as (client, url):
        answer = httpx.post(f"{url}/v1/chat/completions", json=body(model="very-late"), timeout=20)
        assert answer.status_code == 504
        client.stop()


def test_a_body_that_is_announced_too_large(tmp_path: Path) -> None:
    """It is refused before it is sent, where the client waits for a word."""
    with limited(tmp_path) as (_, url), socket.create_connection(("127.0.0.1", _port(url))) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        connection.sendall(f"{head}Content-Length: {BODY_LIMIT_BYTES + 1}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large(tmp_path: Path) -> None:
    """One that does not say how long it is is read to the limit and no further."""
    with limited(tmp_path) as (_, url):
        pieces = iter([b" " * 1024 * 1024] * 17)
        answer = httpx.post(f"{url}/v1/chat/completions", content=pieces, timeout=20)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_head_has_a_limit(tmp_path: Path) -> None:
    """Headers without end are refused, and the server goes on."""
    with limited(tmp_path) as (_, url):
        with socket.create_connection(("127.0.0.1", _port(url))) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 400_000)
            assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")
        assert httpx.get(f"{url}/health").status_code == 200


def test_so_many_models(tmp_path: Path) -> None:
    """The number of models in memory is the user's to choose; the one used longest ago leaves."""
    with limited(tmp_path, max_models=1) as (client, _):
        for name in ("echo", "other"):
            list(client.chat(name, ask("x")))
            assert [status.name for status in client.loaded()] == [name]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
