"""A registry that remembers what it was asked, for tests of what goes over the wire."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qwenctl.registry.app import RegistryApp
from qwenctl.store.store import Store
from tests.registry.running import running_app


@dataclass
class Counted:
    """An application in front of another: each request, and the bytes of all answers' bodies."""

    app: ASGIApp
    requests: list[tuple[str, str]] = field(default_factory=list)
    body_bytes: int = 0
    address: str = ""

    @property
    def of_blobs(self) -> list[tuple[str, str]]:
        """The requests for blobs."""
        return [request for request in self.requests if "/blobs/" in request[1]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count, and pass on."""
        if scope["type"] == "http":
            self.requests.append((scope["method"], scope["path"]))

        async def counting(message: Message) -> None:
            self.body_bytes += len(message.get("body", b""))
            await send(message)

        await self.app(scope, receive, counting)


@contextmanager
def counted_registry(store: Store) -> Iterator[Counted]:
    """A registry over `store` on loopback; `address` is its `host:port`."""
    counted = Counted(RegistryApp(store))
    with running_app(counted) as address:
        counted.address = address
        yield counted
