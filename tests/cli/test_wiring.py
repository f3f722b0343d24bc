"""Where the parts meet: settings from the environment, models for the runner."""

import os
from pathlib import Path

import pytest

from qwenctl.cli.models import StoreModels
from qwenctl.cli.wiring import load_settings, open_store
from qwenctl.errors import FileMissing, InvalidSettings, ReferenceUnknown
from qwenctl.oci.reference import Reference
from tests.builders import model


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """The order is one for every setting."""
    file = tmp_path / "config.yaml"
    file.write_text("port: 1\nkeep_alive: 1m\nregistry: file.example\n")
    os.environ.update(QWENCTL_CONFIG=str(file), QWENCTL_PORT="2", QWENCTL_KEEP_ALIVE="2m")
    settings = load_settings(port="3")
    assert (settings.port, settings.keep_alive_seconds, settings.registry) == (3, 120.0, "file.example")


def test_a_settings_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """A missing default file is none; a missing named one is an error."""
    assert load_settings().port == 12434
    os.environ["QWENCTL_CONFIG"] = str(tmp_path / "absent.yaml")
    with pytest.raises(FileMissing):
        load_settings()


def test_a_settings_file_that_cannot_be_used(tmp_path: Path) -> None:
    """An unknown key names the known ones."""
    file = tmp_path / "config.yaml"
    file.write_text("prot: 1\n")
    os.environ["QWENCTL_CONFIG"] = str(file)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    assert "port" in (caught.value.hint or "")


def test_the_runner_finds_models_by_every_name(tmp_path: Path) -> None:
    """Short names, full names and ids; a damaged model does not hide the others."""
    os.environ["QWENCTL_STORE"] = str(tmp_path / "store")
    settings = load_settings()
    store = open_store(settings)
    good, bad = model(1), model(2)
    good.put(store, Reference.parse("me/good:v1"))
    bad.put(store, Reference.parse("me/bad:v1"))
    config = store.layout.blob(bad.manifest.config.digest)
    config.chmod(0o600)
    config.write_bytes(b"x" * len(bad.config))
    models = StoreModels(settings)
    assert [found.name for found in models.models()] == ["me/good:v1"]
    digest = str(good.manifest.descriptor.digest)
    for name in ("me/good:v1", "docker.io/me/good:v1", digest, digest[7:19]):
        found = models.find(name)
        assert found.id == digest
        assert found.path.read_bytes() == good.weights
    with pytest.raises(ReferenceUnknown):
        models.find("me/absent")
