"""What a user has set for single models, kept on disk: `models.json` in the directory of the state.

Keyed by the model's full name, not by its digest: what is set stays when a pull moves the tag, and a model
that is removed and comes back finds it again. A model without a name goes by its digest. It lies with the
state because that directory is what a command and the runner that it starts are sure to share.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from qwenctl.errors import InvalidSettings
from qwenctl.runner.messages import LoadOptions
from qwenctl.store.disk import Disk, locked

FILE_NAME: Final = "models.json"
_LOCK_NAME: Final = "models.lock"


class Configured(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is set for one model; a request or a flag that says otherwise goes before.

    `options` hold from the next load on. `sampling` are defaults of `Sampling`'s fields.
    """

    options: LoadOptions = LoadOptions()
    keep_alive: str | None = None
    sampling: dict[str, float] = {}
    record_bodies: bool = False

    def names(self) -> list[str]:
        """The names of all that is set."""
        own = [name for name in ("keep_alive", "record_bodies") if getattr(self, name)]
        return [*self.options.given(), *self.sampling, *own]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    models: dict[str, Configured] = {}


_Mark = tuple[int, int, int]


class Configurations:
    """All that is set, on disk. Any thread, and any process beside, may read and change it."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE_NAME
        self._lock = threading.Lock()
        self._read: tuple[_Mark | None, dict[str, Configured]] = (None, {})

    def of(self, key: str) -> Configured:
        """What is set for a model now. Raises: InvalidSettings when the file is damaged."""
        return self.all().get(key, Configured())

    def all(self) -> dict[str, Configured]:
        """What is set for each model; read again only when the file has changed. Raises: InvalidSettings."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return {}
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        with self._lock:
            if self._read[0] != mark:
                self._read = (mark, self._load())
            return self._read[1]

    def change(self, key: str, edit: Callable[[Configured], Configured]) -> Configured:
        """What is set for a model after `edit`, on disk when this returns.

        Raises: InvalidSettings; AccessDenied, DiskFull.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._path.with_name(_LOCK_NAME)):
            models = dict(self._load()) if self._path.exists() else {}
            changed = edit(models.pop(key, Configured()))
            if changed != Configured():
                models[key] = changed
            text = msgspec.json.format(msgspec.json.encode(_Document(models=models)), indent=2)
            Disk().replace_file(self._path, text + b"\n")
        return changed

    def _load(self) -> dict[str, Configured]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Document).models
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise InvalidSettings(
                f"`{self._path}` cannot be used: {error}", hint="mend it, or remove it to begin anew"
            ) from error
