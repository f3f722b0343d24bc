"""LoopbackGuard: requests that a web page of another site could make are refused."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from qwenctl.api.guard import LoopbackGuard


def status_for(headers: list[tuple[str, str]]) -> int:
    """The status that a request with these headers gets."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [(n.encode(), v.encode()) for n, v in headers]}
    asyncio.run(LoopbackGuard(PlainTextResponse("ok"))(scope, receive, send))
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:12434", "[::1]", "[::1]:80"]
)
def test_names_of_this_machine_pass(host: str) -> None:
    """Loopback names and addresses pass, with any port."""
    assert status_for([("host", host)]) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::1",
        "",
        "127.0.0.2x",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    """A Host that is another machine's, or none at all, is what DNS rebinding looks like."""
    assert status_for([("host", host)]) == 403


def test_a_request_without_host_is_refused() -> None:
    """HTTP/1.0 allows a request without Host; we do not."""
    assert status_for([]) == 403


def test_every_host_must_be_ours() -> None:
    """A second Host does not hide behind a good first one."""
    assert status_for([("host", "localhost"), ("host", "evil.example")]) == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("https://127.0.0.1", 200),
        ("https://evil.example", 403),
        ("https://localhost.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_origins(origin: str, status: int) -> None:
    """A page served from this machine may ask; a page from elsewhere, or from a file, may not."""
    assert status_for([("host", "localhost"), ("origin", origin)]) == status
