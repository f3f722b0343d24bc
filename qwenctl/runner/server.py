"""The HTTP side of a runner: the doors behind the guard, on sockets that are already open.

Separate from `service` because its imports (uvicorn, starlette) take a tenth of a second that the first
worker's start can hide.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.routing import BaseRoute, Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.api import ollama, openai
from qwenctl.api.guard import LoopbackGuard
from qwenctl.errors import NotFound
from qwenctl.runner import control
from qwenctl.runner.pool import Pool


class Activity:
    """An ASGI layer that counts the requests under way and remembers when the last one ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = 0
        self.last_seconds = asyncio.get_running_loop().time()
        """On the loop's clock."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counted."""
        self.requests += 1
        try:
            await self._app(scope, receive, send)
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


def routes(pool: Pool, life: control.Life) -> list[BaseRoute]:
    """Every door of the runner. Docker Model Runner's addresses lead to OpenAI's door, too."""
    docker = [Mount(path, routes=openai.routes(pool)) for path in ("/engines/llama.cpp", "/engines")]
    return [*control.routes(pool, life), *openai.routes(pool), *ollama.routes(pool), *docker]


def build(pool: Pool, life: control.Life, patience_seconds: int) -> tuple[Server, Activity]:
    """A server that is not started yet. After `leave` it cuts what still runs when its patience is over."""
    activity = Activity(LoopbackGuard(Router(routes(pool, life), default=_unknown_path)))
    config = uvicorn.Config(
        activity,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,  # only the loop that we replace keeps it right
        timeout_graceful_shutdown=patience_seconds,
    )
    return Server(config), activity


async def _unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    hint = "the doors are /v1, /engines/v1, /api and /qwenctl/v1"
    error = NotFound(f"there is no `{scope['path']}` here", hint=hint)
    await openai.refusal(error)(scope, receive, send)


async def serve(server: Server, listeners: Sequence[socket.socket]) -> None:
    """Answer on `listeners`, which are closed at the end, until `server.leave`."""
    await server.serve(sockets=list(listeners))
