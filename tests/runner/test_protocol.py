"""Protocol: clients that drip, or stop to read, lose their connection; slow answers do not."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from qwenctl.runner.protocol import Protocol


class Quick(Protocol):
    """A protocol without patience."""

    head_seconds = 0.3
    stall_seconds = 0.3


class Talker:
    """An application that says more than any buffer holds at `/long`, and `ok` after a while elsewhere."""

    def __init__(self) -> None:
        self.left = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; `left` is set when the client of a long answer has gone."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] != "/long":
            await asyncio.sleep(0.6)
            await send({"type": "http.response.body", "body": b"ok"})
            return
        await receive()  # the request has no body
        leaving = asyncio.ensure_future(receive())
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        self.left.set()


@pytest.fixture
def talker() -> Talker:
    """The application behind the port."""
    return Talker()


@pytest.fixture
def port(talker: Talker) -> Iterator[int]:
    """A server whose connections have no patience."""
    config = uvicorn.Config(
        talker, port=0, http=Quick, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def read_to_the_end(connection: socket.socket) -> bytes:
    """What comes until the other side closes."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half"])
def test_a_head_that_does_not_come(port: int, sent: bytes) -> None:
    """A connection without a whole head is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        assert read_to_the_end(connection) == b""


def test_dripping_does_not_help(port: int) -> None:
    """A byte now and then does not move the deadline."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(0.05)
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(200):
            with suppress(TimeoutError):
                assert connection.recv(1) == b""
                return
            with suppress(ConnectionError):
                connection.sendall(b"x")
        raise AssertionError("it was never closed")


def test_an_answer_may_take_its_time(port: int) -> None:
    """Once the head is here there is no hurry, and the next request of the connection has its own time."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += connection.recv(65536)
            assert b"ok" in received


def test_who_stops_to_read_is_left(port: int, talker: Talker) -> None:
    """A client that reads nothing of a long answer is cut off, and the application learns that it left."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert talker.left.wait(10)
