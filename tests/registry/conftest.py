"""A registry over an empty store, and an HTTP client without opinions."""

from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import httpx
import pytest

from qwenctl.oci.descriptor import OCI_MANIFEST, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest, build_manifest
from qwenctl.registry.app import RegistryApp
from qwenctl.store.disk import Disk
from qwenctl.store.store import Store
from tests.registry.running import Switch, running_app


class HastyDisk(Disk):
    """Leaves durability to the operating system: what a crash would lose is not asked here."""

    def sync(self, file: FileIO) -> None:
        """Nothing."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store behind the registry."""
    return Store.open(tmp_path / "store", disk=HastyDisk())


@pytest.fixture(scope="session")
def served() -> Iterator[tuple[Switch, httpx.Client]]:
    """One server for all tests, and a client of it."""
    switch = Switch()
    with (
        running_app(switch) as address,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=10) as client,
    ):
        yield switch, client


@pytest.fixture
def http(served: tuple[Switch, httpx.Client], store: Store) -> httpx.Client:
    """A client of a registry over this test's store."""
    switch, client = served
    switch.app = RegistryApp(store)
    return client


Push = Callable[..., Digest]


@pytest.fixture
def push_blob(http: httpx.Client) -> Push:
    """Pushes content in one request; its digest."""

    def push(raw: bytes, repository: str = "me/model", algorithm: str = "sha256") -> Digest:
        digest = Digest.of(raw, "sha512" if algorithm == "sha512" else "sha256")
        answer = http.post(f"/v2/{repository}/blobs/uploads/", params={"digest": str(digest)}, content=raw)
        assert answer.status_code == 201, answer.text
        return digest

    return push


@pytest.fixture
def push_manifest(http: httpx.Client, push_blob: Push) -> Callable[..., Manifest]:
    """Pushes a small manifest with its blobs under a tag, or by its digest without one."""

    def push(tag: str | None = "v1", repository: str = "me/model", **fields: object) -> Manifest:
        config, layer = b"{}", f"content of {tag}".encode()
        for raw in (config, layer):
            push_blob(raw, repository)
        manifest = build_manifest(
            Descriptor.of(config, "application/vnd.example.config"),
            (Descriptor.of(layer, "application/vnd.example.layer"),),
            **fields,  # type: ignore[arg-type]
        )
        version = tag or str(manifest.descriptor.digest)
        answer = http.put(
            f"/v2/{repository}/manifests/{version}",
            content=manifest.raw,
            headers={"Content-Type": OCI_MANIFEST},
        )
        assert answer.status_code == 201, answer.text
        return manifest

    return push
