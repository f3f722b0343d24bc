"""Guard: requests that a web page of another site could make are refused, and those without the key."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from qwenctl.api.guard import Admission, Guard
from qwenctl.api.openai_errors import refusal

KEY = "sécret"  # what a client may send is any byte
OPEN = Admission(api_key="k1", any_host=True)


def status_for(
    headers: list[tuple[str, str]],
    admission: Admission | None = None,
    path: str = "/v1/models",
    server: tuple[str, int | None] = ("127.0.0.1", 12434),
) -> int:
    """The status that a request with these headers gets."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "server": server,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    guard = Guard(PlainTextResponse("ok"), lambda _, error: refusal(error), admission)
    asyncio.run(guard(scope, receive, send))
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


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([("authorization", "Bearer k1")], 200),
        ([("authorization", "bearer  k1 ")], 200),
        ([("x-api-key", "k1")], 200),
        ([("x-api-key", "k2"), ("authorization", "Bearer k1")], 200),
        ([("authorization", "Bearer k")], 401),
        ([("authorization", "Bearer k11")], 401),
        ([("authorization", "Basic k1")], 401),
        ([("authorization", "k1")], 401),
        ([("authorization", "Bearer")], 401),
        ([("x-api-key", "")], 401),
        ([("x-api-key", KEY)], 401),
    ],
)
def test_the_key(headers: list[tuple[str, str]], status: int) -> None:
    """With a key every request must have it, as OpenAI's clients send it, or as Anthropic's do."""
    assert status_for([("host", "localhost"), *headers], Admission(api_key="k1")) == status


def test_health_needs_no_key() -> None:
    """Who watches over the server may ask whether it lives."""
    assert status_for([("host", "localhost")], OPEN, "/health") == 200


def test_a_unix_socket_needs_no_key() -> None:
    """Its owner alone can open it; the Host is still looked at."""
    unix = ("/run/runner.sock", None)
    assert status_for([("host", "localhost")], OPEN, server=unix) == 200
    assert status_for([("host", "evil.example")], OPEN, server=unix) == 403


def test_beyond_loopback_the_key_decides() -> None:
    """A server that other machines reach is called by names that it does not know."""
    key = ("x-api-key", "k1")
    assert status_for([("host", "box.example:12434"), key], OPEN) == 200
    assert status_for([("host", "box.example:12434")], OPEN) == 401
    assert status_for([("host", "box.example"), key], Admission(api_key="k1")) == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://a.example", 200),
        ("https://b.example", 403),
        ("http://a.example", 403),
        ("http://box.example:1", 200),
    ],
)
def test_pages_that_may(origin: str, status: int) -> None:
    """Pages of an origin that was named may ask, and those that the server itself served."""
    admission = Admission(api_key="k1", any_host=True, origins=frozenset({"https://a.example"}))
    headers = [("host", "box.example:1"), ("x-api-key", "k1"), ("origin", origin)]
    assert status_for(headers, admission) == status


def test_all_pages_may_when_told_so() -> None:
    """`*` lets in every page, of a file too; the Host must still be this machine's."""
    everybody = Admission(origins=frozenset({"*"}))
    assert status_for([("host", "localhost"), ("origin", "null")], everybody) == 200
    assert status_for([("host", "evil.example"), ("origin", "null")], everybody) == 403
