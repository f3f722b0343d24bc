"""A misbehaving registry, and a client of it whose clock does not really wait."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qwenctl.remote.client import Client, Clock
from qwenctl.remote.credentials import Credential
from qwenctl.remote.docker_config import DockerConfig
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from tests.remote.faulty_registry import FaultyRegistry, faulty_registry
from tests.remote.tls import Authority, make_authority
from tests.remote.tls_front import tls_front


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


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority that nobody knows, and a server's certificate for the names that tests use."""
    return make_authority(tmp_path, "127.0.0.1", "0.0.0.0", "registry.test")


@pytest.fixture
def secure(faulty: FaultyRegistry, authority: Authority) -> Iterator[int]:
    """A port of 127.0.0.1 and of 0.0.0.0 where the registry speaks TLS."""
    with tls_front(authority.server, faulty.address, "0.0.0.0") as port:
        yield port


@pytest.fixture
def config(tmp_path: Path) -> DockerConfig:
    """A file of Docker's that does not exist yet, in a directory that does not either."""
    return DockerConfig(tmp_path / "docker/config.json", helper_seconds=5)
