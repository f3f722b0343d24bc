"""What the user has to show: Docker's `config.json` with its credential helpers, and podman's `auth.json`.

Order for one registry: `credHelpers[host]`, then `credsStore`, then `auths`. A helper that is missing or has
nothing means anonymous, which is what public models need. Nothing here is ever sent to another host than the
one that it is filed under.

Source: Docker CLI `cli/config` and docker-credential-helpers; containers-auth.json(5).
"""

import base64
import binascii
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_HUB_KEY: Final = "https://index.docker.io/v1/"
_HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HELPER_SECONDS: Final = 30.0
_TOKEN_USER: Final = "<token>"  # noqa: S105 - the user name by which helpers mark an identity token


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A user and a secret, or an identity token. Its `repr` shows neither."""

    user: str = ""
    secret: str = ""
    identity_token: str = ""

    def __repr__(self) -> str:
        return "Credential(…)"

    @property
    def basic(self) -> str:
        """The value of `Authorization` for the Basic scheme."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()


class Credentials:
    """The files that were found, in order. Looking one up may run a helper program."""

    def __init__(self, files: tuple[dict[str, Any], ...] = ()) -> None:
        self._files = files

    def find(self, registry: str) -> Credential | None:
        """What is filed under `registry` (`host[:port]`); None for anonymous."""
        for file in self._files:
            for key in _keys(registry):
                found = _from_helper(file, key) or _from_auths(file, key)
                if found:
                    return found
        return None


def load(environ: Mapping[str, str], home: Path) -> Credentials:
    """The credentials of this user. Files that are missing or damaged count as empty."""
    paths = [
        Path(environ["REGISTRY_AUTH_FILE"]) if environ.get("REGISTRY_AUTH_FILE") else None,
        Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json" if environ.get("XDG_RUNTIME_DIR") else None,
    ]
    return Credentials(tuple(file for path in paths if path and (file := _read(path))))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _keys(registry: str) -> tuple[str, ...]:
    names = (_HUB_KEY, *sorted(_HUB_HOSTS)) if registry in _HUB_HOSTS else (registry,)
    return (
        *names,
        *(f"https://{name}{end}" for name in names if "/" not in name for end in ("", "/", "/v1/")),
    )


def _from_helper(file: dict[str, Any], key: str) -> Credential | None:
    helpers = file.get("credHelpers")
    name = helpers.get(key) if isinstance(helpers, dict) else None
    name = name or file.get("credsStore")
    if not isinstance(name, str) or not name or "/" in name:
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=True,
        )
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return Credential(identity_token=secret) if user == _TOKEN_USER else Credential(user, secret)


def _from_auths(file: dict[str, Any], key: str) -> Credential | None:
    auths = file.get("auths")
    entry = auths.get(key) if isinstance(auths, dict) else None
    if not isinstance(entry, dict):
        return None
    if isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
        return Credential(identity_token=entry["identitytoken"])
    user, secret = str(entry.get("username") or ""), str(entry.get("password") or "")
    if isinstance(entry.get("auth"), str):
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, secret = decoded.rstrip("\0").partition(":")
    return Credential(user, secret) if user else None
