"""The doors on a real port over a scripted host, and the public client of OpenAI's API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.api_builders import ScriptedHost, doors


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[ScriptedHost, str]]:
    """One server for all tests of a file, whose host each test gets fresh."""
    host = ScriptedHost()
    with doors(host) as url:
        yield host, url


@pytest.fixture
def host(address: tuple[ScriptedHost, str]) -> ScriptedHost:
    """The host behind the door, as new."""
    address[0].reset()
    return address[0]


@pytest.fixture
def client(address: tuple[ScriptedHost, str]) -> Iterator[Any]:
    """The public client, pointed at us."""
    openai = pytest.importorskip("openai", reason="the `openai` package is not installed")
    with openai.OpenAI(base_url=f"{address[1]}/v1", api_key="none", max_retries=0) as made:
        yield made
