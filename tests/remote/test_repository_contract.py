"""`Repository` keeps the contract of targets, over the network to the embedded registry."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Target
from qwenctl.registry.app import RegistryApp
from qwenctl.remote.client import Client
from qwenctl.remote.repository import Repository
from qwenctl.remote.transport import Transport
from qwenctl.store.store import Store
from tests.contracts import target as contract
from tests.registry.running import Switch, running_app


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Switch, str]]:
    """One server for all clauses."""
    switch = Switch()
    with running_app(switch) as address:
        yield switch, address


@pytest.mark.parametrize("clause", contract.SUITE, ids=lambda clause: clause.__name__)
def test_contract(
    clause: Callable[[contract.Open], None], served: tuple[Switch, str], tmp_path: Path
) -> None:
    """A repository on a registry is a target like any other."""
    switch, address = served
    transports: list[Transport] = []

    def open_repository() -> tuple[Target, Reference]:
        switch.app = RegistryApp(Store.open(Path(mkdtemp(dir=tmp_path))))
        transports.append(Transport())
        client = Client(transports[-1], f"http://{address}")
        return Repository(client, "me/model"), Reference.parse(f"{address}/me/model:v1")

    try:
        clause(open_repository)
    finally:
        for transport in transports:
            transport.close()
