"""The ledger: what each request was and how it ended, whatever the door; bodies only when asked for."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenctl.errors import LoadFailed
from qwenctl.runner import ledger as ledgers
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.configured import Configured
from qwenctl.runner.ledger import Ledger
from qwenctl.runner.models import FoundModel
from qwenctl.runtime.engine import EmbedRequest
from qwenctl.runtime.events import PromptProcessed, TextDelta
from tests.runner.runner_builders import LONG, NamedModels, ask, eventually, service, settings_in

Running = tuple[RunnerClient, str]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """A runner, and its address."""
    with service(settings_in(tmp_path), port=0) as (client, ready):
        yield client, str(ready.url)


def post(url: str, path: str, **fields: Any) -> int:
    """The status of a request about `echo`."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "stream": False} | fields
    return httpx.post(f"{url}{path}", json=body, timeout=20).status_code


def test_requests_of_all_doors_are_there(running: Running) -> None:
    """Each with door, path, model, status, tokens, times and end, in the order in which they ended."""
    client, url = running
    list(client.chat("echo", ask("hi")))
    assert post(url, "/v1/chat/completions", max_tokens=2) == 200
    assert post(url, "/v1/chat/completions", stream=True) == 200
    assert post(url, "/v1/messages", max_tokens=9) == 200
    found = client.requests()
    assert [(record.door, record.ended) for record in found] == [
        ("qwenctl", "stop"),
        ("openai", "length"),
        ("openai", "stop"),
        ("anthropic", "stop"),
    ]
    assert [record.number for record in found] == [1, 2, 3, 4]
    second = found[1]
    assert (second.path, second.method, second.status) == ("/v1/chat/completions", "POST", 200)
    assert (second.model, second.kind, second.error) == ("echo", "chat", None)
    assert (second.prompt_tokens, second.completion_tokens) == (5, 2)
    assert second.first_token_seconds is not None
    assert 0 < second.first_token_seconds <= second.seconds
    assert second.tokens_per_second is not None


def test_what_fails_is_there_too(running: Running) -> None:
    """A name that means nothing, a body that is none, a load that fails: each with status and error."""
    client, url = running
    assert post(url, "/v1/chat/completions", model="nowhere") == 404
    assert post(url, "/v1/chat/completions", messages="x") == 400
    assert post(url, "/v1/nothing") == 404
    with pytest.raises(LoadFailed):
        list(client.chat("refused", ask("x")))
    found = client.requests()
    assert [(record.status, record.ended) for record in found] == [
        (404, "model_unknown"),
        (400, "invalid_request"),
        (404, "not_found"),
        (500, "load_failed"),
    ]
    assert "`refused` is not a model" in str(found[-1].error)


def test_a_request_under_way_is_there(running: Running) -> None:
    """It has no end yet, and no number; one whose client leaves ends as cancelled."""
    client, _ = running
    stream = client.chat("slow", ask(LONG))
    next(stream)
    [record] = client.requests()
    assert (record.ended, record.number, record.model) == (None, 0, "slow")
    stream.close()  # type: ignore[attr-defined]
    eventually(lambda: client.requests()[0].ended == "cancelled")


def test_which_are_shown(running: Running) -> None:
    """The last so many, those of a model under any of its names, those that ended after one."""
    client, _ = running
    for name in ("echo", "other", "alias"):
        list(client.chat(name, ask("x")))
    assert [record.model for record in client.requests("alias")] == ["echo", "echo"]
    assert [record.number for record in client.requests(limit=2)] == [2, 3]
    assert [record.number for record in client.requests(after=2)] == [3]
    assert client.requests(after=3) == []


def test_what_is_asked_must_make_sense(running: Running) -> None:
    """A number that is none is 400."""
    assert httpx.get(f"{running[1]}/qwenctl/v1/requests?limit=x").status_code == 400
    assert httpx.get(f"{running[1]}/qwenctl/v1/requests?limit=0").status_code == 400


def test_texts_are_not_kept(running: Running) -> None:
    """Unless somebody asked for it there is nothing of what was said, also for who asks for bodies."""
    client, _ = running
    list(client.chat("echo", ask("a secret")))
    [record] = client.requests(bodies=True)
    assert (record.request, record.answer) == (None, None)


def test_texts_are_given_to_the_user_alone(running: Running) -> None:
    """Whoever reaches the TCP port, another user of the machine perhaps, gets none."""
    assert httpx.get(f"{running[1]}/qwenctl/v1/requests?bodies=true").status_code == 400
    assert httpx.get(f"{running[1]}/qwenctl/v1/requests").status_code == 200


def test_texts_are_kept_when_asked_for(tmp_path: Path) -> None:
    """The request as the engine got it, and the answer; shown only to who asks for them."""
    with service(settings_in(tmp_path), records_bodies=True) as (client, _):
        list(client.chat("echo", ask("hello")))
        [record] = client.requests(bodies=True)
        assert isinstance(record.request, dict)
        assert record.request["messages"] == [{"role": "user", "content": "hello"}]
        assert record.answer == "hello"
        assert client.requests()[0].request is None


class Recorded(NamedModels):
    """A source whose `echo` is configured to have its texts kept."""

    def find(self, name: str) -> FoundModel:
        """See `ModelSource`."""
        found = super().find(name)
        return replace(found, configured=Configured(record_bodies=found.name == "echo"))


def test_texts_of_one_model(tmp_path: Path) -> None:
    """A model that is configured so has its texts kept, and no other."""
    with service(settings_in(tmp_path), Recorded()) as (client, _):
        for name in ("echo", "other"):
            list(client.chat(name, ask("hello")))
        assert [record.answer for record in client.requests(bodies=True)] == ["hello", None]


def test_bodies_have_bounds() -> None:
    """A long request is left out, a long answer cut, and the oldest bodies go when there are too many."""
    ledger = Ledger(records_bodies=True)
    long = "x" * (ledgers.KEPT_BODY_BYTES // 2)
    for _ in range(40):
        with ledger.recording("embed", "m") as entry:
            ledger.meet(entry, "m", EmbedRequest(texts=(long,)), bodies=False)
            for _ in range(4):
                entry.hear(TextDelta(long, 1))
    with ledger.recording("embed", "m") as entry:
        ledger.meet(entry, "m", EmbedRequest(texts=(long * 3,)), bodies=False)
    found = ledger.records(bodies=True)
    assert found[0].answer is None
    assert len(str(found[-2].answer)) == ledgers.KEPT_BODY_BYTES
    assert bytes(found[-1].request).startswith(b'"(15')  # type: ignore[call-overload]
    kept = sum(entry.answer is not None for entry in found)
    assert kept * ledgers.KEPT_BODY_BYTES <= ledgers.KEPT_BODIES_BYTES + ledgers.KEPT_BODY_BYTES


def test_the_ring_has_an_end() -> None:
    """Only the last thousand are known; the totals have all."""
    ledger = Ledger()
    for _ in range(ledgers.KEPT_REQUESTS + 5):
        with ledger.recording("chat", "m") as entry:
            ledger.meet(entry, "m", None, bodies=False)
            entry.hear(PromptProcessed(3, 1, 0.0))
    assert len(ledger.records()) == ledgers.KEPT_REQUESTS
    assert ledger.totals.tokens["m", "prompt"] == 3 * (ledgers.KEPT_REQUESTS + 5)


def test_one_request_may_ask_several_times() -> None:
    """What a door asks of models for one request, side by side, is one entry with the sum of the tokens."""
    ledger = Ledger()
    with ledger.arrive("POST", "/v1/chat/completions") as arrived:
        arrived.status = 200
        for _ in range(2):
            with ledger.recording("chat", "m") as entry:
                ledger.meet(entry, "m", None, bodies=False)
                entry.hear(PromptProcessed(3, 1, 0.0))
                entry.hear(TextDelta("ab", 2))
    [record] = ledger.records()
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (6, 2, 4)
