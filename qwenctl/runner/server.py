"""The HTTP side of a runner: the doors behind the guard, on sockets that are already open.

Separate from `service` because its imports (uvicorn, starlette) take a tenth of a second that the first
worker's start can hide.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.api import openai
from qwenctl.api.guard import LoopbackGuard
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
    """Uvicorn without its signal handlers: it re-raises a signal at the end, before workers are put away."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield


def routes(pool: Pool, life: control.Life) -> list[BaseRoute]:
    """Every door of the runner."""
    return [*control.routes(pool, life), *openai.routes(pool)]


def build(pool: Pool, life: control.Life, drain_seconds: int) -> tuple[Server, Activity]:
    """A server that is not started yet. At its end it waits `drain_seconds` for requests under way."""
    activity = Activity(LoopbackGuard(Router(routes(pool, life))))
    config = uvicorn.Config(
        activity,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=drain_seconds,
    )
    return Server(config), activity


async def serve(server: Server, listeners: Sequence[socket.socket]) -> None:
    """Answer on `listeners`, which are closed at the end, until `server.should_exit`."""
    await server.serve(sockets=list(listeners))
