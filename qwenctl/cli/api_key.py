"""The key of a server, as the user gives it: checked, read from a file, and never in a message."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qwenctl.cli.output import reason_of
from qwenctl.errors import AccessDenied, FileMissing, InvalidSettings

if TYPE_CHECKING:
    from qwenctl.settings import Settings

KEY_VARIABLE: Final = "QWENCTL_API_KEY"
_KEY_LIMIT: Final = 1024


def read_key(path: Path) -> str:
    """The key that is alone in a file. Raises: FileMissing, AccessDenied, InvalidSettings."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            text = file.read(_KEY_LIMIT + 2).strip()
    except FileNotFoundError as error:
        raise FileMissing(f"the file of the key, `{path}`, does not exist") from error
    except OSError as error:
        raise AccessDenied(f"the file of the key, `{path}`, cannot be read: {reason_of(error)}") from error
    return checked_key(text, f"`{path}`")


def key_of(settings: "Settings", environ: Mapping[str, str]) -> str | None:
    """The user's key for a server of this machine: the variable goes before the file of the settings.

    Raises: as `read_key`.
    """
    if environ.get(KEY_VARIABLE):
        return checked_key(environ[KEY_VARIABLE], f"${KEY_VARIABLE}")
    return None if settings.api_key_file is None else read_key(settings.api_key_file)


def checked_key(key: str, origin: str) -> str:
    """The key, if it can go into a header. Raises: InvalidSettings, which does not repeat it."""
    if not 0 < len(key) <= _KEY_LIMIT or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidSettings(
            f"{origin}: this cannot be a key",
            hint=f"a key is 1 to {_KEY_LIMIT} letters, digits and signs, without a space; "
            "`openssl rand -hex 32` makes a good one",
        )
    return key
