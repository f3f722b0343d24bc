"""Registries with a model, whole pulls from them, and what the user has set, for tests of networks."""

import base64
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenctl.errors import Unreachable
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import MemoryTarget, Source, content_of, read_bytes, read_verified
from qwenctl.remote.credentials import Credentials, load
from qwenctl.remote.mirrors import Outages, open_mirrored
from qwenctl.settings import Settings
from tests.builders import Model, model, settings_in
from tests.remote.faulty_registry import FaultyRegistry
from tests.remote.tls import Authority, make_authority

MADE = model()
SETTINGS = settings_in(Path("/nowhere"))


def stock(registry: FaultyRegistry, made: Model = MADE, name: str = "me/model", tag: str = "v1") -> None:
    """Put a model into a registry."""
    for raw in made.contents.values():
        registry.add(raw)
    for version in (tag, str(made.manifest.descriptor.digest)):
        registry.manifests[name, version] = made.manifest.raw


def at(registry: str, tag: str = "v1") -> Reference:
    """`me/model` there."""
    return Reference.parse(f"{registry}/me/model:{tag}")


def settings(**changed: Any) -> Settings:
    """Settings with some fields changed."""
    return replace(SETTINGS, **changed)


def own_credentials(users: dict[str, str]) -> Credentials:
    """Docker's file in the home of this test, with a `user:password` for each host."""
    path = Path.home() / ".docker" / "config.json"
    path.parent.mkdir(exist_ok=True)
    auths = {host: {"auth": base64.b64encode(secret.encode()).decode()} for host, secret in users.items()}
    path.write_text(json.dumps({"auths": auths}))
    return load(os.environ, Path.home())


def read_all(source: Source, reference: Reference, made: Model = MADE) -> None:
    """All of the model, verified, as a pull does it. Raises: what the source raises."""
    root = source.resolve(reference)
    assert root == made.manifest.descriptor
    here = MemoryTarget()
    for descriptor in made.contents:
        here.push(descriptor, content_of(read_bytes(source.fetch(descriptor), descriptor.size)))
    here.push(root, content_of(read_verified(source, root)))


def pull(
    registry: str,
    chosen: Settings = SETTINGS,
    credentials: Credentials | None = None,
    outages: Outages | None = None,
) -> list[str]:
    """Read `me/model:v1` of a registry, as the command does; what was told about mirrors."""
    told: list[str] = []
    outages = outages or Outages(told.append)
    with open_mirrored(at(registry), chosen, credentials or Credentials(), outages) as source:
        read_all(source, at(registry))
    return told


def raised(name: str, chosen: Settings) -> Unreachable:
    """The error of a pull that finds no secure way."""
    with pytest.raises(Unreachable) as caught:
        pull(name, chosen)
    assert caught.value.exit_code == 4
    assert caught.value.hint
    return caught.value


def make_authority_in(directory: Path, *names: str) -> Authority:
    """An authority in a directory of its own."""
    directory.mkdir()
    return make_authority(directory, *names)
