"""Pushing what the registry has in another repository: it is taken over without its bytes."""

from pathlib import Path

import pytest

from qwenctl.flows.push import other_homes
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.conftest import Command
from tests.registry.running import running_registry
from tests.remote.debian_registry import debian_registry


@pytest.mark.parametrize("peer", ["embedded", pytest.param("debian", marks=pytest.mark.peer)])
def test_blobs_are_mounted(qwenctl: Command, store_path: Path, tmp_path: Path, peer: str) -> None:
    """A model that was pushed under one name costs nothing under another one of the same registry."""
    server = (
        debian_registry(tmp_path) if peer == "debian" else running_registry(Store.open(tmp_path / "there"))
    )
    with server as address:
        made = model(padding=100_000)
        made.put(Store.open(store_path), Reference.parse(f"{address}/me/model:v1"))
        first = qwenctl("push", f"{address}/me/model:v1", "--json").data
        assert first["blobs_moved"] == 3
        assert qwenctl("tag", f"{address}/me/model:v1", f"{address}/you/copy:v1").status == 0
        second = qwenctl("push", f"{address}/you/copy:v1", "--json").data
        assert (second["moved_bytes"], second["blobs_moved"], second["blobs_present"]) == (0, 0, 3)
        assert qwenctl("rm", f"{address}/you/copy:v1").status == 0
        assert qwenctl("pull", "--no-check", f"{address}/you/copy:v1").status == 0


def test_other_homes(tmp_path: Path) -> None:
    """Only other repositories of the same registry count; a model that is damaged here is left out."""
    store = Store.open(tmp_path)
    one, two, three = model(1), model(2), model(3)
    one.put(store, Reference.parse("registry.example/a/one:v1"))
    two.put(store, Reference.parse("elsewhere.example/a/two:v1"))
    three.put(store, Reference.parse("registry.example/a/three:v1"))
    store.layout.blob(three.manifest.descriptor.digest).unlink()
    homes = other_homes(store, Reference.parse("registry.example/a/new:v1"))
    assert homes(one.manifest.layers[0].digest) == "a/one"
    assert homes(two.manifest.layers[0].digest) is None
    assert homes(three.manifest.layers[0].digest) is None
    own = other_homes(store, Reference.parse("registry.example/a/one:v2"))
    assert own(one.manifest.layers[0].digest) is None
