"""The application behind a socket on loopback, until it is told to stop."""

import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from qwenctl.errors import Conflict
from qwenctl.registry.app import RegistryApp
from qwenctl.store.store import Store

LOOPBACK: Final = "127.0.0.1"
_DRAIN_SECONDS: Final = 5

Ready = Callable[[str], None]
"""Called once with `host:port`, when requests are answered."""


def serve(store: Store, *, fallback: Store | None, port: int, on_ready: Ready) -> None:
    """Serve `store` on loopback until SIGINT or SIGTERM. Raises: Conflict when the port is taken."""
    with bind(port) as listener:
        make_server(RegistryApp(store, fallback), listener, on_ready).run(sockets=[listener])


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; 0 is any free port. Raises: Conflict."""
    try:
        return socket.create_server((LOOPBACK, port), backlog=128)
    except OSError as error:
        raise Conflict(
            f"port {port} cannot be used: {error.strerror}",
            hint="give another with --port, 0 for any",
        ) from error


def make_server(app: ASGIApp, listener: socket.socket, on_ready: Ready) -> uvicorn.Server:
    """A server that tells its address when it answers; its caller runs and stops it."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        server_header=False,
    )
    return _Server(config, listener, on_ready)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listener: socket.socket, on_ready: Ready) -> None:
        super().__init__(config)
        self._listener, self._on_ready = listener, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        self._on_ready(f"{host}:{port}")
