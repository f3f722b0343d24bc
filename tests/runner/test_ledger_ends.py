"""How requests end in the ledger when their door has more to say than the model."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwenctl.errors import Unreachable
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.ledger import Ledger
from tests.api.library_builders import Shelf
from tests.runner.runner_builders import LONG, eventually, service, settings_in

Running = tuple[RunnerClient, str]
SHELF = Shelf()
CALL = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A runner with a store that fails on wish, and its address."""
    SHELF.reset()
    with service(settings_in(tmp_path), open_library=lambda: SHELF, port=0) as (client, ready):
        yield client, str(ready.url)


@pytest.mark.parametrize(
    ("path", "body", "door"),
    [
        ("/api/pull", {"model": "tiny"}, "ollama"),
        ("/models/create", {"from": "tiny"}, "docker"),
        ("/models/tiny/push", {}, "docker"),
    ],
)
def test_a_transfer_that_breaks_off(running: Running, path: str, body: dict[str, str], door: str) -> None:
    """Its stream began well, with 200; its end is the error's, and the stream says it last."""
    client, url = running
    SHELF.error, SHELF.error_after = Unreachable("the registry is gone"), 2
    answer = httpx.post(f"{url}{path}", json=body)
    assert answer.status_code == 200 and "the registry is gone" in answer.text.splitlines()[-1]
    [record] = client.requests()
    assert (record.door, record.status, record.ended, record.error) == (
        door,
        200,
        "unreachable",
        "the registry is gone",
    )


def test_a_transfer_that_goes_well_is_not_there(running: Running) -> None:
    """The ledger is of models that are asked."""
    client, url = running
    assert httpx.post(f"{url}/api/pull", json={"model": "tiny"}).status_code == 200
    assert client.requests() == []


def test_an_answer_that_its_door_ended(running: Running) -> None:
    """Where the first call is enough the answer stops; nobody cancelled it."""
    client, url = running
    body = {
        "model": "slow",
        "messages": [{"role": "user", "content": CALL + LONG}],
        "tools": [{"type": "function", "function": {"name": "now"}}],
        "parallel_tool_calls": False,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20).json()
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    [record] = client.requests()
    assert (record.ended, record.status) == ("stop", 200)
    assert record.completion_tokens == answer["usage"]["completion_tokens"] < len(LONG)
    eventually(lambda: not client.status().requests)


def test_a_client_that_leaves_before_its_body_is_there() -> None:
    """It was not refused: it left."""
    ledger = Ledger()
    with ledger.arrive("POST", "/v1/chat/completions") as entry:
        entry.status = 499
    assert [record.ended for record in ledger.records()] == ["cancelled"]


def test_docker_s_addresses_have_its_name(running: Running) -> None:
    """What is refused there counts as Docker's, and OpenAI's and Anthropic's under `/engines` as theirs."""
    client, url = running
    for path in ("/engines/_configure", "/models/create", "/engines/v1/messages", "/engines/v1/completions"):
        assert httpx.post(f"{url}{path}", content=b"{").status_code == 400
    assert [record.door for record in client.requests()] == ["docker", "docker", "anthropic", "openai"]
