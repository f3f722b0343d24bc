"""`run` on a model whose weights are in several files of the store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from qwenctl.store.store import Store
from tests.cli.conftest import Command
from tests.flows.fit_builders import put_files
from tests.runtime.test_splits import split_model


@pytest.fixture(autouse=True)
def runner_ends(store_path: Path) -> Iterator[None]:
    """No runner outlives its test."""
    yield
    runner = RunnerClient.running(load_settings())
    if runner is not None:
        runner.stop()
        runner.shutdown()


def test_it_answers(qwenctl: Command, store_path: Path) -> None:
    """The blobs are called by their digests; llama.cpp gets them in their order."""
    put_files(Store.open(store_path), "me/split:v1", *split_model())
    shown = qwenctl("run", "me/split:v1", "hello", "--max-tokens", "3", "--json")
    assert shown.status == 0, shown.err
    assert shown.data["usage"]["completion_tokens"] == 3
