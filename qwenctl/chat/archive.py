"""Saved chats: one private JSON file each, replaced as a whole whenever something was said.

A reader, and a crash at any moment, sees the file as it was or as it is.
"""

import contextlib
import errno
import os
import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import msgspec

from qwenctl.chat.session import Turn, title
from qwenctl.errors import AccessDenied, Conflict, DiskFull, FileMissing, Malformed, NotFound, UsageError

_LIMIT_BYTES: Final = 64 * 1024 * 1024
_ID: Final = re.compile(r"[0-9a-f]{1,8}")
_DRAFT_SECONDS: Final = 3600.0  # an older draft is what a crash left; none takes seconds


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """A chat as it is saved. `model` is whom it was held with last."""

    schema: int = 1
    id: str
    model: str
    created: datetime
    updated: datetime
    system: str = ""
    turns: tuple[Turn, ...] = ()

    @classmethod
    def of(cls, model: str, system: str, turns: Iterable[Turn]) -> Self:
        """A chat of this moment, with an id of its own."""
        now, name = datetime.now(UTC), secrets.token_hex(4)
        return cls(id=name, model=model, created=now, updated=now, system=system, turns=tuple(turns))


class Archive:
    """The saved chats in a directory, which is made with the first of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, beginning: str) -> Chat:
        """The chat whose id begins so. Raises: UsageError, NotFound; Conflict for several; Malformed."""
        if not _ID.fullmatch(beginning):
            raise UsageError(f"`{beginning}` is not the id of a chat", hint="`qwenctl chats list` lists them")
        found = [name for name in self.ids() if name.startswith(beginning)]
        if not found:
            raise NotFound(f"there is no chat `{beginning}`", hint="`qwenctl chats list` lists them")
        if len(found) > 1:
            raise Conflict(f"{len(found)} chats begin with `{beginning}`", hint="write more of the id")
        return self._read(found[0])

    def ids(self) -> list[str]:
        """The ids of all, in no order."""
        if not self._directory.is_dir():
            return []
        return [path.stem for path in self._directory.glob("*.json") if _ID.fullmatch(path.stem)]

    def chats(self) -> tuple[list[Chat], list[Malformed]]:
        """All that can be read, the latest first, and what is wrong with the others."""
        chats, problems = [], []
        for name in self.ids():
            try:
                chats.append(self._read(name))
            except Malformed as error:
                problems.append(error)
            except FileMissing:  # removed meanwhile
                continue
        return sorted(chats, key=lambda chat: chat.updated, reverse=True), problems

    def latest(self, model: str | None) -> Chat | None:
        """The last chat with `model`, or with anyone."""
        return next((chat for chat in self.chats()[0] if model in (None, chat.model)), None)

    def remove(self, name: str) -> None:
        """Deletes a chat; without effect when it is gone. Raises: AccessDenied."""
        try:
            self.path(name).unlink(missing_ok=True)
        except OSError as error:
            raise _denied(self.path(name), error) from error

    def _read(self, name: str) -> Chat:
        chat = read_chat(self.path(name))
        if chat.id != name:  # it would be saved elsewhere
            raise Malformed(f"`{self.path(name)}` is not a saved chat: it has the id of another")
        return chat

    def path(self, name: str) -> Path:
        """The file of the chat with this id."""
        return self._directory / f"{name}.json"

    def write(self, chat: Chat) -> None:
        """Saves a chat, durably. Raises: DiskFull, AccessDenied."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _denied(self._directory, error) from error
        self._remove_drafts()
        write_private(self.path(chat.id), encode(chat))

    def _remove_drafts(self) -> None:
        """Deletes what a crash left between the writing and the renaming of a file."""
        for draft in self._directory.glob(".*.draft"):
            with contextlib.suppress(OSError):  # another process removes it, too
                if time.time() - draft.lstat().st_mtime > _DRAFT_SECONDS:
                    draft.unlink()


class Keeper:
    """Saves one conversation as it goes on.

    Each save replaces what this keeper saved before. Where another program has written the chat meanwhile,
    the two go on as two chats: nothing that was said is lost.
    """

    def __init__(self, archive: Archive, chat: Chat | None = None) -> None:
        self._archive, self._chat = archive, chat
        self._seen = self._mark()

    @property
    def id(self) -> str | None:
        """The id of the chat; None before anything was said."""
        return self._chat.id if self._chat else None

    def save(self, model: str, system: str, turns: Iterable[Turn]) -> None:
        """Saves what was said so far. Raises: DiskFull, AccessDenied."""
        turns = tuple(turns)
        known = self._chat
        if known is None and not turns:
            return
        if known is None or self._mark() != self._seen:
            known = Chat.of(model, system, turns)
        chat = msgspec.structs.replace(
            known, model=model, system=system, turns=turns, updated=datetime.now(UTC)
        )
        self._archive.write(chat)
        self._chat = chat
        self._seen = self._mark()

    def begin(self, chat: Chat | None = None) -> None:
        """Goes on with another chat; without one, with a new one that has no id yet."""
        self._chat = chat
        self._seen = self._mark()

    def _mark(self) -> tuple[int, int] | None:
        """What changes whenever the file is replaced."""
        if self._chat is None:
            return None
        try:
            status = self._archive.path(self._chat.id).stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns


def read_chat(path: Path) -> Chat:
    """The chat in a file. Raises: FileMissing, AccessDenied, Malformed."""
    try:
        if not path.is_file():  # a pipe with this name would be waited for
            raise FileMissing(f"the file `{path}` does not exist")
        with path.open("rb") as file:
            raw = file.read(_LIMIT_BYTES + 1)
    except OSError as error:
        raise _denied(path, error) from error
    try:
        if len(raw) > _LIMIT_BYTES:
            raise msgspec.ValidationError("it is too long")
        return msgspec.json.decode(raw, type=Chat)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"`{path}` is not a saved chat: {error}") from error


def encode(chat: Chat) -> bytes:
    """The chat as the JSON that is saved, a few lines to look at."""
    return msgspec.json.format(msgspec.json.encode(chat), indent=1) + b"\n"


def transcript(chat: Chat) -> str:
    """The chat as Markdown, for a person."""
    blocks = [
        f"# {title(chat.turns) or 'An empty chat'}",
        f"{chat.model} · {chat.updated:%Y-%m-%d %H:%M} UTC",
    ]
    if chat.system:
        blocks += ["## System", chat.system]
    for turn in chat.turns:
        blocks.append("## You" if turn.role == "user" else "## Model")
        blocks.append("\n\n".join([turn.text, *(file.render() for file in turn.files)]).strip("\n"))
        if turn.interrupted:
            blocks.append("(interrupted)")
    return "\n\n".join(blocks) + "\n"


def write_private(path: Path, content: bytes) -> None:
    """Replaces a file, readable for its owner alone; durable on return. Raises: DiskFull, AccessDenied."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.draft")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(handle)
        draft.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _denied(path, error) from error
        raise


def _denied(path: Path, error: OSError) -> AccessDenied | DiskFull:
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.ENOSPC:
        return DiskFull(f"cannot write `{path}`: {reason}")
    return AccessDenied(f"`{path}` cannot be used: {reason}", hint="give --no-save, or another QWENCTL_STATE")
