"""skopeo pushes to the registry, lists, pulls and deletes: an independent client of the protocol."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store
from tests.builders import Model, model
from tests.peers import require_peer
from tests.registry.conftest import HastyDisk
from tests.registry.running import running_registry

pytestmark = pytest.mark.peer
REFERENCE = Reference.parse("me/model:v1")


def skopeo(*arguments: str) -> bytes:
    """What skopeo prints."""
    command = [require_peer("skopeo"), "--insecure-policy", *arguments]
    shown = subprocess.run(command, capture_output=True, check=False)
    assert shown.returncode == 0, shown.stderr.decode()
    return shown.stdout


@pytest.fixture
def address(store: Store) -> Iterator[str]:
    """A registry over the test's store."""
    with running_registry(store) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> tuple[Model, str]:
    """A model in a layout that is not the registry's, and its name for skopeo."""
    made = model(padding=3 << 20)
    layout = Store.open(tmp_path / "source", disk=HastyDisk())
    made.put(layout, REFERENCE)
    return made, f"oci:{layout.path}:{REFERENCE}"


def test_push_and_pull(tmp_path: Path, store: Store, address: str, source: tuple[Model, str]) -> None:
    """A model goes up, is in the store, and comes down with the same digests."""
    made, origin = source
    remote = f"docker://{address}/me/model:v1"
    skopeo("copy", "--dest-tls-verify=false", origin, remote)
    assert store.resolve(REFERENCE) == made.manifest.descriptor
    skopeo("copy", "--src-tls-verify=false", remote, f"oci:{tmp_path}/copy:{REFERENCE}")
    copy = Store.open(tmp_path / "copy")
    assert copy.resolve(REFERENCE).digest == made.manifest.descriptor.digest
    assert copy.blob_path(made.manifest.layers[0]).read_bytes() == made.weights


def test_look_and_delete(address: str, source: tuple[Model, str]) -> None:
    """Tags and the raw manifest are shown; deletion by skopeo takes every tag."""
    made, origin = source
    remote = f"docker://{address}/me/model"
    for tag in ("v1", "v2"):
        skopeo("copy", "--dest-tls-verify=false", origin, f"{remote}:{tag}")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", remote))["Tags"] == ["v1", "v2"]
    assert skopeo("inspect", "--raw", "--tls-verify=false", f"{remote}:v2") == made.manifest.raw
    skopeo("delete", "--tls-verify=false", f"{remote}:v1")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", remote))["Tags"] == []
