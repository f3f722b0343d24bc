"""A misbehaving registry, and a client of it whose clock does not really wait."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from qwenctl.remote.client import Client, Clock
from qwenctl.remote.credentials import Credential
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    """The registry."""
    with faulty_registry() as registry:
        yield registry


@pytest.fixture
def slept() -> list[float]:
    """The waits that the client would have made, in seconds."""
    return []


Connect = Callable[..., Repository]


@pytest.fixture
def connect(faulty: FaultyRegistry, slept: list[float]) -> Iterator[Connect]:
    """Opens the repository `me/model` of the registry, perhaps with a credential."""
    transport = Transport(connect_seconds=5, read_seconds=2)

    def open_repository(credential: Credential | None = None, mount_from: str | None = None) -> Repository:
        clock = Clock(sleep=slept.append, dice=lambda: 1.0, today=lambda: datetime(2026, 1, 1, tzinfo=UTC))
        client = Client(transport, f"http://{faulty.address}", credential, clock=clock)
        return Repository(client, "me/model", mount_from=lambda digest: mount_from)

    yield open_repository
    transport.close()
