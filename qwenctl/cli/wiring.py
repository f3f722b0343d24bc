"""Where the parts meet: settings from this process's environment, and what is opened by them.

The only place that knows both the environment and the implementations. Everything is opened lazily:
`list` loads no network code, `version` opens no store.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qwenctl.errors import AccessDenied, FileMissing
from qwenctl.settings import Directories, Settings, also_insecure, resolve

if TYPE_CHECKING:
    from qwenctl.cli.library import StoreLibrary
    from qwenctl.flows.catalog import Catalog
    from qwenctl.oci.reference import Reference
    from qwenctl.oci.target import Source
    from qwenctl.remote.mirrors import Outages
    from qwenctl.remote.repository import Repository
    from qwenctl.store.store import Store


def directories(environ: Mapping[str, str]) -> Directories:
    """The platform's directories for this user."""
    from platformdirs import PlatformDirs

    platform = PlatformDirs("qwenctl", appauthor=False)
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or platform.user_state_dir)
    return Directories(
        config=platform.user_config_path,
        data=platform.user_data_path,
        state=platform.user_state_path,
        runtime=runtime / "qwenctl" if environ.get("XDG_RUNTIME_DIR") else runtime / "run",
    )


def settings_file(environ: Mapping[str, str]) -> Path:
    """The settings file: `$QWENCTL_CONFIG`, else `config.yaml` in the configuration directory."""
    named = environ.get("QWENCTL_CONFIG")
    return Path(named) if named else directories(environ).config / "config.yaml"


def load_settings(insecure: Sequence[str] | None = None, **flags: str | None) -> Settings:
    """The settings in force for this command, with the registries of `--insecure-registry` in `insecure`.

    What was learnt about mirrors is forgotten. Raises: InvalidSettings, FileMissing, AccessDenied.
    """
    _outages.cache_clear()
    settings = resolve(flags, os.environ, read_settings(), directories(os.environ))
    return also_insecure(settings, insecure or ())


def read_settings() -> str:
    """The text of the settings file, empty without one. Raises: FileMissing, AccessDenied."""
    path = settings_file(os.environ)
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        if os.environ.get("QWENCTL_CONFIG"):
            raise FileMissing(f"settings file `{path}` does not exist") from error
        return ""
    except (OSError, UnicodeDecodeError) as error:
        from qwenctl.cli.output import reason_of

        raise AccessDenied(f"settings file `{path}` cannot be read: {reason_of(error)}") from error


def open_store(settings: Settings) -> "Store":
    """The user's store, made if it is not there. Raises: Malformed, AccessDenied."""
    from qwenctl.store.store import Store

    return Store.open(settings.store)


def open_catalog() -> "Catalog":
    """The built-in registry and the model cards that ship with the program."""
    from qwenctl.flows.catalog import Catalog

    return Catalog.open()


def open_library(settings: Settings) -> "StoreLibrary":
    """What the runner's doors may do to the store. Raises: as `open_store`."""
    from qwenctl.cli.library import StoreLibrary

    return StoreLibrary(settings)


@contextmanager
def open_source(
    reference: "Reference", settings: Settings, catalog: "Catalog", outages: "Outages | None" = None
) -> Iterator["Source"]:
    """Where `reference` is pulled from: the built-in registry, or its mirrors and its registry.

    A mirror that fails is told on stderr and not asked again by this command, or as long as `outages` live.
    """
    from qwenctl.oci.reference import BUILT_IN

    if reference.registry == BUILT_IN:
        yield catalog.store
        return
    from qwenctl.remote import credentials
    from qwenctl.remote.mirrors import open_mirrored

    known = credentials.load(os.environ, Path.home())
    with open_mirrored(reference, settings, known, outages or _outages()) as source:
        yield source


@contextmanager
def open_remote(
    reference: "Reference", settings: Settings, store: "Store | None" = None
) -> Iterator["Repository"]:
    """The repository of `reference` on its registry, never on a mirror, with the user's credentials.

    With the `store` that is pushed from, blobs may be taken over from other repositories of the registry.
    """
    from qwenctl.flows.push import other_homes
    from qwenctl.remote import credentials
    from qwenctl.remote.repository import open_repository

    known = credentials.load(os.environ, Path.home())
    mount_from = other_homes(store, reference) if store else lambda digest: None
    with open_repository(reference, settings, known, mount_from=mount_from) as repository:
        yield repository


@cache
def _outages() -> "Outages":
    """The mirrors that failed since the settings were loaded: one memory for all that a command opens."""
    from qwenctl.cli.output import complain
    from qwenctl.remote.mirrors import Outages

    return Outages(complain)
