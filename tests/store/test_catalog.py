"""Where the built-in registry is, in a checkout and in a wheel."""

import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.errors import FileMissing
from qwenctl.oci.reference import Reference
from qwenctl.store.catalog import built_in_names, card_path, card_paths, catalog_path, open_catalog
from qwenctl.store.store import Store
from tests.contracts.target import push_artifact
from tests.store.store_builders import tagged

ROOT = Path(__file__).parent.parent.parent


def test_a_checkout_has_it_beside_the_package() -> None:
    """In a checkout it is `registry/`."""
    assert catalog_path() == ROOT / "registry"


def test_a_wheel_has_it_inside(tmp_path: Path) -> None:
    """In an installed package it is `_catalog`, and that goes before a `registry` that lies beside."""
    package = tmp_path / "qwenctl"
    (tmp_path / "registry" / "catalog").mkdir(parents=True)
    assert catalog_path(package) == tmp_path / "registry"
    (package / "_catalog" / "catalog").mkdir(parents=True)
    assert catalog_path(package) == package / "_catalog"


def test_a_damaged_installation_says_so(tmp_path: Path) -> None:
    """Without either, the error says what to do."""
    with pytest.raises(FileMissing, match="built-in") as caught:
        catalog_path(tmp_path / "qwenctl")
    assert caught.value.hint


def test_cards_are_found_by_family(tmp_path: Path) -> None:
    """Each YAML file is the card of the family that it is named after; a family is not a path."""
    cards = tmp_path / "catalog"
    cards.mkdir()
    for name in ("qwen2.5.yaml", "guide.yaml", "README.md"):
        (cards / name).touch()
    (tmp_path / "secret.yaml").touch()
    assert card_paths(tmp_path) == {"guide": cards / "guide.yaml", "qwen2.5": cards / "qwen2.5.yaml"}
    assert card_path("qwen2.5", tmp_path) == cards / "qwen2.5.yaml"
    for none in ("qwen3", "../secret", "README", ""):
        assert card_path(none, tmp_path) is None


def test_built_in_names_are_those_of_its_registry(tmp_path: Path) -> None:
    """Names come from the index, without tags, and only those of the built-in registry."""
    store = Store.open(tmp_path)
    for text in (
        "qwenctl.internal/guide:latest",
        "qwenctl.internal/guide:F16",
        "docker.io/ai/qwen2.5:latest",
    ):
        tagged(store, reference=Reference.parse(text))
    assert built_in_names(open_catalog(tmp_path)) == {"guide"}


def test_the_catalogue_is_only_read(tmp_path: Path) -> None:
    """Opening it makes nothing, whatever is there."""
    with pytest.raises(FileMissing):
        open_catalog(tmp_path / "nothing")
    push_artifact(Store.open(tmp_path / "some"))
    before = sorted(tmp_path.rglob("*"))
    open_catalog(tmp_path / "some").tags()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_store_is_light() -> None:
    """Listing models loads no more than the standard library's small parts."""
    heavy = ("asyncio", "logging", "msgspec", "yaml", "filelock", "subprocess", "socket")
    program = f"import sys, qwenctl.store.catalog; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
