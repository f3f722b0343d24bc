"""A store of models that are called like what they do, and a runner whose workers need no model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qwenctl.cli.wiring import load_settings
from qwenctl.oci.reference import Reference
from qwenctl.runner.client import RunnerClient
from qwenctl.store.store import Store
from tests.builders import model
from tests.runner.runner_builders import NamedModels, service


@contextmanager
def scripted_models(store_path: Path) -> Iterator[RunnerClient]:
    """The models of `NamedModels`, to be run by name: `echo` repeats the last message, `slow` slowly."""
    store = Store.open(store_path)
    for name in NamedModels.NAMES:
        model().put(store, Reference("docker.io", f"ai/{name}", "latest"))
    with service(load_settings(), NamedModels()) as (client, _):
        yield client
