"""What the user has to show: Docker's `config.json` with its credential helpers, and podman's `auth.json`.

Order for one registry in one file: `credHelpers[host]`, then `credsStore`, then `auths`; an entry for a
namespace (`host/name…`, the longest that fits) goes before the one for its host. A helper that is missing,
hangs or has nothing means anonymous, which is what public models need. Nothing here is ever sent to another
host than the one that it is filed under.

Source: Docker CLI `cli/config` (configfile/file.go, credentials/native_store.go); containers-auth.json(5).
"""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qwenctl.errors import AccessDenied
from qwenctl.oci.reference import DOCKER_HUB
from qwenctl.remote.credential_helper import HELPER_SECONDS, CredentialHelper, is_helper_name

Document = dict[str, Any]
"""A configuration file as JSON gives it; it may hold secrets and is never shown."""

HUB_KEY: Final = "https://index.docker.io/v1/"
"""The name under which Docker files its own registry."""
HUB_TOKEN_KEYS: Final = (f"{HUB_KEY}access-token", f"{HUB_KEY}refresh-token")
"""Where Docker's browser login keeps its own tokens; they are no passwords."""
TOKEN_USER: Final = "<token>"  # noqa: S105 - the user name by which helpers mark an identity token
_HUB_HOSTS: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A user and a secret, an identity token, or a registry's own bearer token. Its `repr` shows none."""

    user: str = ""
    secret: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return "Credential(…)"

    @property
    def basic(self) -> str:
        """The value of `Authorization` for the Basic scheme."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


@dataclass(frozen=True, slots=True, repr=False)
class CredentialFile:
    """One configuration file that was found and read. Its `repr` shows nothing of it."""

    path: Path
    document: Document

    def __repr__(self) -> str:
        return f"CredentialFile({str(self.path)!r}, …)"


@dataclass(frozen=True, slots=True)
class Located:
    """A credential, the file that led to it, and the helper program that keeps it, if it is not the file."""

    credential: Credential
    path: Path
    helper: str | None


class Credentials:
    """The files that were found, in order. Looking one up may run a helper program."""

    def __init__(
        self, files: tuple[CredentialFile, ...] = (), helper_seconds: float = HELPER_SECONDS
    ) -> None:
        self._files = files
        self._helper_seconds = helper_seconds

    def find(self, registry: str, repository: str = "") -> Credential | None:
        """What is filed for `repository` of `registry` (`host[:port]`); None for anonymous."""
        located = self.locate(registry, repository)
        return located.credential if located else None

    def locate(self, registry: str, repository: str = "") -> Located | None:
        """What `find` finds, and where."""
        for file in self._files:
            for place in _places(place_of(registry), repository):
                found = _find_at(file, place, self._helper_seconds)
                if found:
                    return found
        return None


def docker_config_path(environ: Mapping[str, str], home: Path) -> Path:
    """Docker's configuration file, whether it exists or not."""
    return Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def load(environ: Mapping[str, str], home: Path, helper_seconds: float = HELPER_SECONDS) -> Credentials:
    """The credentials of this user. Files that are missing or damaged count as empty."""
    configured = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    paths = [
        Path(environ["REGISTRY_AUTH_FILE"]) if environ.get("REGISTRY_AUTH_FILE") else None,
        docker_config_path(environ, home),
        Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json" if environ.get("XDG_RUNTIME_DIR") else None,
        configured / "containers/auth.json",
    ]
    files = (CredentialFile(path, document) for path in paths if path and (document := _read(path)))
    return Credentials(tuple(files), helper_seconds)


def place_of(key: str) -> str:
    """What an entry's key stands for: `host[:port]`, or `host[:port]/namespace…` in podman's files.

    A key with a scheme or a slash at its end is an address of the whole registry, whatever its path.
    """
    if key in HUB_TOKEN_KEYS:
        return key
    scheme, separator, rest = key.partition("://")
    rest = rest if separator else scheme
    if separator or key.endswith("/"):
        rest = rest.partition("/")[0]
    host, slash, path = rest.partition("/")
    host = host.lower()
    return f"{DOCKER_HUB if host in _HUB_HOSTS else host}{slash}{path}"


def key_of(place: str) -> str:
    """The key under which Docker itself files a registry."""
    return HUB_KEY if place == DOCKER_HUB else place


def spellings(keys: Iterable[str], place: str) -> tuple[str, ...]:
    """Those of `keys` that stand for `place`: Docker's own spelling first, then the bare one, then others."""
    first = (key_of(place), place)
    return tuple(sorted((key for key in keys if place_of(key) == place), key=lambda key: _rank(key, first)))


def helper_for(document: Document, place: str) -> tuple[str, str] | None:
    """The name of the helper that keeps `place`, and the key to ask it with; None for the file itself.

    An empty name in `credHelpers` exempts a registry from `credsStore`, as it does for Docker.
    """
    helpers = section(document, "credHelpers")
    for key in spellings(helpers, place):
        return (helpers[key], key) if is_helper_name(helpers[key]) else None
    name = document.get("credsStore")
    return (name, key_of(place)) if is_helper_name(name) and "/" not in place else None


def section(document: Document, name: str) -> Document:
    """A mapping of the file; empty when it is not there, or no mapping."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _rank(key: str, first: tuple[str, ...]) -> int:
    return first.index(key) if key in first else len(first)


def _places(host: str, repository: str) -> Iterable[str]:
    """The places to look at, the most particular first."""
    parts = repository.split("/") if repository else []
    for count in range(len(parts), 0, -1):
        yield "/".join((host, *parts[:count]))
    yield host


def _read(path: Path) -> Document:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _find_at(file: CredentialFile, place: str, helper_seconds: float) -> Located | None:
    auths = section(file.document, "auths")
    keys = spellings(auths, place)
    helper = helper_for(file.document, place)
    if helper:
        name, key = helper
        keeper = CredentialHelper(name, helper_seconds)
        # Docker leaves an empty entry for what a helper keeps: it tells the spelling that was used
        found = _from_helper(keeper, dict.fromkeys((key, *keys)))
        if found:
            return Located(found, file.path, keeper.program)
    entries = (_from_entry(auths[key]) for key in keys)
    return next((Located(found, file.path, None) for found in entries if found), None)


def _from_helper(helper: CredentialHelper, keys: Iterable[str]) -> Credential | None:
    """What the helper has under the first of `keys` that it knows; it is not asked again after a failure."""
    for key in keys:
        try:
            kept = helper.get(key)
        except AccessDenied:
            return None
        if kept is not None:
            return _password(*kept)
    return None


def _from_entry(entry: object) -> Credential | None:
    if not isinstance(entry, dict):
        return None
    if identity := _text(entry, "identitytoken"):
        return Credential(identity_token=identity)
    registry = _text(entry, "registrytoken")
    if registry and registry.isascii() and registry.isprintable():  # it becomes a header as it is
        return Credential(registry_token=registry)
    if encoded := _text(entry, "auth"):
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, colon, secret = decoded.rstrip("\0").partition(":")
        return _password(user, secret) if colon else None
    return _password(_text(entry, "username"), _text(entry, "password"))


def _password(user: str, secret: str) -> Credential | None:
    if user == TOKEN_USER:
        return Credential(identity_token=secret)
    return Credential(user, secret) if user else None


def _text(entry: Document, name: str) -> str:
    value = entry.get(name)
    return value if isinstance(value, str) else ""
