"""Credential helpers: programs `docker-credential-NAME` that keep secrets in the keychain of the system.

A secret goes over stdin and stdout alone: it is no argument of the program and in no message of ours.

Source: docker-credential-helpers, README.md "Development" (get, store, erase and the words for "not found").
"""

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from typing import Final, TypeGuard
from urllib.parse import quote

from qwenctl.errors import AccessDenied

HELPER_SECONDS: Final = 30.0
"""How long a helper may take; some ask the person to unlock a keychain."""

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_NOT_FOUND: Final = "credentials not found in native keychain"
_SHOWN: Final = 300  # characters of a helper's complaint


def is_helper_name(name: object) -> TypeGuard[str]:
    """Whether `name` can follow `docker-credential-`: a word, not a path."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class CredentialHelper:
    """One helper, by the name that a configuration gives it. Every method runs it once."""

    name: str
    seconds: float = HELPER_SECONDS

    @property
    def program(self) -> str:
        """What is looked for on PATH."""
        return f"docker-credential-{self.name}"

    def get(self, key: str) -> tuple[str, str] | None:
        """User and secret that are kept under `key`; None when there are none. Raises: AccessDenied."""
        answer = self._run("get", key.encode())
        if answer is None:
            return None
        try:
            document = json.loads(answer)
            user, secret = document["Username"], document["Secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            # the cause is dropped: it carries the answer, and the answer may carry a secret
            raise AccessDenied(f"`{self.program}` answers with what is no credential") from None
        return (user, secret) if isinstance(user, str) and isinstance(secret, str) and secret else None

    def store(self, key: str, user: str, secret: str) -> None:
        """Keep user and secret under `key`, in place of older ones. Raises: AccessDenied."""
        document = {"ServerURL": key, "Username": user, "Secret": secret}
        self._run("store", json.dumps(document).encode(), (user, secret))

    def erase(self, key: str) -> None:
        """Drop what is kept under `key`; nothing there is no error. Raises: AccessDenied."""
        self._run("erase", key.encode())

    def _run(self, action: str, sent: bytes, pair: tuple[str, str] = ("", "")) -> bytes | None:
        """What the helper prints; None when it has nothing under that key."""
        try:
            done = subprocess.run(
                [self.program, action], input=sent, capture_output=True, timeout=self.seconds
            )
        except FileNotFoundError:
            raise AccessDenied(f"`{self.program}` is not on PATH") from None
        except subprocess.TimeoutExpired:
            raise AccessDenied(
                f"`{self.program} {action}` has not answered for {self.seconds:g} seconds"
            ) from None
        except (OSError, ValueError) as error:
            raise AccessDenied(f"`{self.program}` cannot be run: {error}") from None
        if done.returncode == 0:
            return done.stdout
        if _NOT_FOUND in done.stdout.decode(errors="replace"):
            return None
        said = (done.stdout if done.stdout.strip() else done.stderr).decode(errors="replace")
        shown = _line(redacted(said, *pair)) or f"status {done.returncode}"
        raise AccessDenied(f"`{self.program} {action}` fails: {shown}")


def redacted(text: str, user: str, secret: str) -> str:
    """The words of somebody else without a secret that they may repeat, in any of its usual forms."""
    if not secret:
        return text
    pair = base64.b64encode(f"{user}:{secret}".encode()).decode()
    alone = base64.b64encode(secret.encode()).decode()
    forms = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), pair, alone}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "…")
    return text


def _line(text: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line[:_SHOWN]
