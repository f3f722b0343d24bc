"""The built-in registry: where it is, its layout, its model cards.

In a wheel it lies inside the package as `_catalog`; in a checkout it is the directory `registry/` beside
the package.
"""

from pathlib import Path
from typing import Final

from qwenctl.errors import FileMissing
from qwenctl.oci.reference import BUILT_IN
from qwenctl.store.store import Store

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def catalog_path(package: Path = _PACKAGE) -> Path:
    """The directory of the built-in registry. Raises: FileMissing when the installation is damaged."""
    for path in (package / "_catalog", package.parent / "registry"):
        if (path / "catalog").is_dir():
            return path
    raise FileMissing("the built-in registry is missing", hint="install qwenctl again")


def open_catalog(path: Path | None = None) -> Store:
    """The built-in registry as a store that is only read. Raises: Malformed when it has no models."""
    return Store.open(path or catalog_path(), create=False)


def built_in_names(catalog: Store) -> frozenset[str]:
    """The names of the built-in models, without tags."""
    references = (reference for reference, _ in catalog.tags())
    return frozenset(reference.repository for reference in references if reference.registry == BUILT_IN)


def card_paths(path: Path | None = None) -> dict[str, Path]:
    """The files of the model cards by family."""
    cards = (path or catalog_path()) / "catalog"
    return {file.stem: file for file in sorted(cards.glob("*.yaml"))}


def card_path(family: str, path: Path | None = None) -> Path | None:
    """The file of one family's model card; None when there is none."""
    return card_paths(path).get(family)
