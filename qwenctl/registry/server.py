"""The application behind a socket on loopback, until it is told to stop."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from qwenctl.errors import Conflict
from qwenctl.registry.app import RegistryApp
from qwenctl.store.store import Store

LOOPBACK: Final = "127.0.0.1"
_DRAIN_SECONDS: Final = 5
_ENDING: Final = (signal.SIGINT, signal.SIGTERM)

Ready = Callable[[str], None]
"""Called once with `host:port`, when requests are answered."""


def serve(store: Store, *, fallback: Store | None, port: int, on_ready: Ready) -> None:
    """Serve `store` on loopback until SIGINT or SIGTERM. Raises: Conflict when the port is taken."""
    with bind(port) as listener:
        make_server(RegistryApp(store, fallback), listener, on_ready).run(sockets=[listener])


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; 0 is any free port. Raises: Conflict."""
    try:
        listener = socket.create_server((LOOPBACK, port), backlog=128)
        # Connections inherit it. asyncio sets it only where the protocol number is spelled out; without it
        # an answer whose head and body are written apart waits 40 ms for the client's acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
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
        log_level="error",  # clients that try TLS first are no news
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

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server in order, and that is all: they are not raised again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _ENDING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self._listener.getsockname()[:2]
        self._on_ready(f"{host}:{port}")
