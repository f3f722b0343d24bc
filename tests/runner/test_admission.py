"""The doors of a real server: key, CORS, addresses, and each API's own words for a refusal."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from qwenctl.errors import UsageError
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.service import ServiceOptions, run
from tests.runner.runner_builders import NamedModels, ask, service, settings_in, text_of

BEARER = {"Authorization": "Bearer k1"}
PREFLIGHT = {
    "Origin": "https://a.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunnerClient, str]]:
    """A server with a key, and a page that may use it."""
    settings = replace(settings_in(tmp_path_factory.mktemp("keyed")), cors=("https://a.example",))
    with service(settings, foreground=True, port=0, api_key="k1") as (client, ready):
        yield client, str(ready.url)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/chat/completions", lambda body: body["error"]["code"] == "invalid_api_key"),
        ("/engines/v1/chat/completions", lambda body: body["error"]["code"] == "invalid_api_key"),
        ("/v1/messages", lambda body: body["error"]["type"] == "authentication_error"),
        ("/api/chat", lambda body: "key" in body["error"]),
        ("/qwenctl/v1/chat", lambda body: body["code"] == "invalid_api_key"),
    ],
)
def test_every_door_refuses_in_its_own_words(keyed: tuple[RunnerClient, str], path: str, read: Any) -> None:
    """Without the key it is 401, with the challenge that HTTP wants and a body in the door's own form."""
    answer = httpx.post(f"{keyed[1]}{path}", json={})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert read(answer.json())


def test_with_the_key_it_answers(keyed: tuple[RunnerClient, str]) -> None:
    """The key opens the doors; health is open without."""
    _, url = keyed
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, headers=BEARER, timeout=20)
    assert answer.json()["choices"][0]["message"]["content"] == "hi"
    assert httpx.get(f"{url}/metrics").status_code == 401
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}


def test_the_command_line_needs_no_key(keyed: tuple[RunnerClient, str]) -> None:
    """The private socket is the user's own."""
    assert text_of(list(keyed[0].chat("echo", ask("hi")))) == "hi"


def test_a_preflight_is_answered(keyed: tuple[RunnerClient, str]) -> None:
    """A page that may asks without the key first, as browsers do, and learns what it may send."""
    answer = httpx.options(f"{keyed[1]}/v1/chat/completions", headers=PREFLIGHT)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "authorization" in answer.headers["access-control-allow-headers"]


def test_a_page_reads_refusals_too(keyed: tuple[RunnerClient, str]) -> None:
    """An answer has the page's origin, whatever its status; another page gets none."""
    url = f"{keyed[1]}/v1/models"
    refused = httpx.get(url, headers={"Origin": "https://a.example"})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")
    other = httpx.get(url, headers=BEARER | {"Origin": "https://b.example"})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
    assert httpx.options(url, headers=PREFLIGHT | {"Origin": "https://b.example"}).status_code == 400


def test_without_cors_there_is_not_a_word_of_it(tmp_path: Path) -> None:
    """A server that was not asked for CORS has none of its headers on any answer."""
    with service(settings_in(tmp_path), port=0) as (_, ready):
        for headers in ({}, {"Origin": "http://localhost:3000"}, {"Origin": "https://a.example"}):
            assert not _cors(httpx.get(f"{ready.url}/v1/models", headers=headers))
        assert not _cors(httpx.options(f"{ready.url}/v1/models", headers=PREFLIGHT))


def _cors(answer: httpx.Response) -> list[str]:
    return [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address(tmp_path: Path, host: str) -> None:
    """A literal of IPv6 works, and the address in the status is one that clients take."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with service(replace(settings_in(tmp_path), host=host), port=0) as (_, ready):
        assert str(ready.url).startswith("http://[::1]:")
        assert httpx.get(f"{ready.url}/health").json() == {"status": "ok"}


def test_beyond_this_machine_it_demands_a_key(tmp_path: Path) -> None:
    """Without one it is refused before anything of it can be seen; the hint says how to give one."""
    settings = replace(settings_in(tmp_path), host="0.0.0.0")
    with pytest.raises(UsageError, match="there is no key") as caught:
        run(settings, NamedModels(), ServiceOptions(foreground=True, port=0))
    assert "QWENCTL_API_KEY" in str(caught.value.hint)
    assert not settings.runtime.exists()


def test_all_addresses_with_a_key(tmp_path: Path) -> None:
    """It listens on all of them, other names are welcome, and its own address is told as one to use here."""
    settings = replace(settings_in(tmp_path), host="0.0.0.0")
    with service(settings, foreground=True, port=0, api_key="k1") as (_, ready):
        assert str(ready.url).startswith("http://127.0.0.1:")
        assert str(ready.address).startswith("0.0.0.0:")
        named = httpx.get(f"{ready.url}/v1/models", headers=BEARER | {"Host": "box.example"})
        assert named.status_code == 200


@pytest.mark.parametrize(
    ("host", "message"),
    [("192.0.2.1", "not an address of this machine"), ("no.such.name.invalid", "is no address")],
)
def test_an_address_of_somebody_else(tmp_path: Path, host: str, message: str) -> None:
    """What cannot be listened on says so."""
    with pytest.raises(UsageError, match=message):
        run(
            replace(settings_in(tmp_path), host=host),
            NamedModels(),
            ServiceOptions(foreground=True, port=0, api_key="k1"),
        )
