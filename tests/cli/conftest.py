"""Commands as a person types them: `qwenctl("list")` gives status, stdout and stderr."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from qwenctl.cli import main
from tests.remote.account_registry import AccountRegistry, account_registry


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document on stdout; the last line of a stream."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def data(self) -> Any:
        """The data of the envelope."""
        return self.document["data"]


Command = Callable[..., Outcome]


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """The directory of the store that commands use in this test; not made yet."""
    path = tmp_path / "store"
    os.environ["QWENCTL_STORE"] = str(path)
    return path


@pytest.fixture
def qwenctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store_path: Path) -> Command:
    """Runs a command in this process, without a terminal; `piped` is what stdin has."""

    def run(*arguments: str, piped: str = "") -> Outcome:
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(piped.encode())))
        capsys.readouterr()
        status = main(arguments)
        shown = capsys.readouterr()
        return Outcome(status, shown.out, shown.err)

    return run


@pytest.fixture(params=["basic", "bearer"])
def registry(request: pytest.FixtureRequest) -> Iterator[AccountRegistry]:
    """A registry that wants a password, in both of the ways."""
    with account_registry(scheme=request.param) as running:
        yield running


@pytest.fixture
def config(clean_environment: Path) -> Path:
    """Docker's file in the home of this test."""
    return clean_environment / ".docker/config.json"
