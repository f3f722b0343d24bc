"""The HTTP side of a runner: the doors behind the guard, on sockets that are already open.

Separate from `service` because its imports (uvicorn, starlette) take a tenth of a second that the first
worker's start can hide.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenctl.api import anthropic, docker, ollama, ollama_errors, openai, openai_errors
from qwenctl.api.doors import MOUNTS, Door, door_of
from qwenctl.api.guard import ERROR, Admission, Guard, with_cors
from qwenctl.api.library import Library
from qwenctl.api.routing import Routing, mounted
from qwenctl.errors import QwenctlError
from qwenctl.runner import control
from qwenctl.runner.ledger import Ledger
from qwenctl.runner.pool import Pool
from qwenctl.runner.protocol import Protocol
from qwenctl.runner.residents import PoolResidents

KEEP_ALIVE_SECONDS: Final = 75
"""Longer than HTTP libraries keep an idle connection (httpx: 5 s), so that the client is who closes it."""
CONNECTION_LIMIT: Final = 4096
"""Connections beyond get 503. Three models and their queues need 1548."""

_REFUSALS: Final[Mapping[Door, Callable[[QwenctlError], Response]]] = {
    "openai": openai_errors.refusal,
    "anthropic": anthropic.refusal,
    "ollama": ollama_errors.refusal,
    "docker": docker.refusal,
    "qwenctl": control.refusal,
}


class Activity:
    """An ASGI layer that counts the requests under way, remembers when the last one ended, and tells the
    ledger of each.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self.requests = 0
        self.last_seconds = asyncio.get_running_loop().time()
        """On the loop's clock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counted."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)
            if message["type"] == "http.response.body":
                entry.answered = not message.get("more_body", False)

        self.requests += 1
        try:
            with self._ledger.arrive(scope["method"], scope["path"]) as entry:
                await self._app(scope, receive, answer)
                if error := scope.get(ERROR):
                    entry.fail(error)
        finally:
            self.requests -= 1
            self.last_seconds = asyncio.get_running_loop().time()


class Server(uvicorn.Server):
    """Uvicorn that waits to be told to leave, where its own loop wakes ten times a second to look.

    It leaves the signals to the service: its own handlers raise them again before workers are put away.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Begins the end: no new connections, the requests under way are finished. Idempotent."""
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """Wait for `leave`."""
        await self.on_tick(0)  # makes the default headers
        await self._leaving.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


def routes(pool: Pool, life: control.Life, library: Library | None) -> list[Route]:
    """Every door of the runner. Docker Model Runner's addresses lead to the doors of its APIs, too.

    Without a library the doors that can change one are not there.
    """
    claude = anthropic.routes(pool)
    v1 = [*claude, *openai.routes(pool)]  # once: a response that is kept is found at every address
    mounts = [route for path in MOUNTS for route in mounted(path, v1)]
    residents = PoolResidents(pool)
    doors = [*control.routes(pool, life, library), *ollama.routes(pool, residents, library)]
    if library is not None:
        doors += docker.routes(residents, library)
    return [*doors, *v1, *mounted("/anthropic", anthropic.routes(pool, alone=True)), *mounts]


def build(
    pool: Pool, life: control.Life, library: Library | None, patience_seconds: int, admission: Admission
) -> tuple[Server, Activity]:
    """A server that is not started yet. After `leave` it cuts what still runs when its patience is over."""
    guarded = Guard(Routing(routes(pool, life, library), refusal), refusal, admission)
    activity = Activity(with_cors(guarded, admission.origins), pool.ledger)
    config = uvicorn.Config(
        activity,
        loop="asyncio",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # only the loop that we replace keeps it right
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        limit_concurrency=CONNECTION_LIMIT,
        timeout_graceful_shutdown=patience_seconds,
    )
    return Server(config), activity


def refusal(scope: Scope, error: QwenctlError) -> Response:
    """`error` in the shape of the door that a request is for."""
    door = door_of(scope["path"])
    if door == "openai" and anthropic.is_versioned(scope):  # the addresses that both have
        door = "anthropic"
    return _REFUSALS[door](error)


async def serve(server: Server, listeners: Sequence[socket.socket]) -> None:
    """Answer on `listeners`, which are closed at the end, until `server.leave`."""
    await server.serve(sockets=list(listeners))
