"""The embedded registry, running on a free port, for everybody's tests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.registry.app import Authorize, RegistryApp
from qwenctl.registry.server import bind, make_server
from qwenctl.store.store import Store


class Switch:
    """An application that can be exchanged, so that many tests share one server."""

    def __init__(self) -> None:
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        assert self.app is not None
        await self.app(scope, receive, send)


@contextmanager
def running_registry(
    store: Store, fallback: Store | None = None, *, authorize: Authorize | None = None
) -> Iterator[str]:
    """A registry over `store` in a thread; gives `host:port`."""
    with running_app(RegistryApp(store, fallback, authorize=authorize)) as address:
        yield address


@contextmanager
def running_app(app: ASGIApp) -> Iterator[str]:
    """An application behind the registry's own server, in a thread; gives `host:port`."""
    ready, address = threading.Event(), [""]

    def tell(text: str) -> None:
        address[0] = text
        ready.set()

    with bind(0) as listener:
        server = make_server(app, listener, tell)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert ready.wait(10)
            yield address[0]
        finally:
            server.should_exit = True
            thread.join()
