"""The doors on a real port over a scripted host, and the public client of OpenAI's API."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.api_builders import ScriptedHost, doors
from tests.api.library_builders import Shelf


@pytest.fixture(scope="module")
def shelf_of_all() -> Shelf:
    """The store and the memory behind the doors; a test takes `shelf`."""
    return Shelf()


@pytest.fixture(scope="module")
def address(shelf_of_all: Shelf) -> Iterator[tuple[ScriptedHost, str]]:
    """One server for all tests of a file, whose host each test gets fresh."""
    host = ScriptedHost()
    with doors(host, *shelf_of_all.routes(host)) as url:
        yield host, url


@pytest.fixture
def host(address: tuple[ScriptedHost, str]) -> ScriptedHost:
    """The host behind the door, as new."""
    address[0].reset()
    return address[0]


@pytest.fixture
def shelf(shelf_of_all: Shelf) -> Shelf:
    """The store and the memory behind the doors, as new."""
    shelf_of_all.reset()
    return shelf_of_all


@pytest.fixture
def client(address: tuple[ScriptedHost, str]) -> Iterator[Any]:
    """The public client, pointed at us."""
    openai = pytest.importorskip("openai", reason="the `openai` package is not installed")
    with openai.OpenAI(base_url=f"{address[1]}/v1", api_key="none", max_retries=0) as made:
        yield made
