"""`Store` keeps the contract of targets."""

from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Target
from qwenctl.store.store import Store
from tests.contracts import target as contract
from tests.store.store_builders import REFERENCE


@pytest.mark.parametrize("clause", contract.SUITE, ids=lambda clause: clause.__name__)
def test_contract(clause: Callable[[contract.Open], None], tmp_path: Path) -> None:
    """A directory is a target like any other."""

    def open_store() -> tuple[Target, Reference]:
        return Store.open(Path(mkdtemp(dir=tmp_path))), REFERENCE

    clause(open_store)
