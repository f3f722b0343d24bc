"""Docker's `config.json` as it is written: one registry is entered or taken out, all else stays as it was.

    lock → read → helper, or the entry itself → draft, synced → rename

The lock is on the draft beside the file, so that nothing is left behind and two of us do not lose each
other's entries (Docker itself takes no lock). A crash leaves the old file or the new one. A symbolic link
stays one: what it points at is replaced.

Source: Docker CLI `cli/config/configfile/file.go` (keys, tab indent) and `credentials/native_store.go` (an
empty entry marks what a helper keeps).
"""

import base64
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from qwenctl.errors import AccessDenied, DiskFull, Malformed
from qwenctl.oci.reference import DOCKER_HUB
from qwenctl.remote.credential_helper import HELPER_SECONDS, CredentialHelper, is_helper_name
from qwenctl.remote.credentials import (
    HUB_TOKEN_KEYS,
    TOKEN_USER,
    Credential,
    Document,
    helper_for,
    key_of,
    section,
    spellings,
)

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class DockerConfig:
    """The file at `path`, which need not exist. Each method is one locked change."""

    def __init__(self, path: Path, helper_seconds: float = HELPER_SECONDS) -> None:
        self.path = path
        self._helper_seconds = helper_seconds

    def save(self, registry: str, credential: Credential) -> str | None:
        """Keep `credential` for `registry`, in place of all that was there; the helper program that has it.

        None: there is no helper, and the file has it, readable for whoever reads the file.
        Raises: AccessDenied (file or helper), DiskFull, Malformed; the file is as it was then.
        """
        with self._edited(always=True) as document:
            self._check_helper_names(document, registry)
            helper = helper_for(document, registry)
            if helper is None:
                key, entry, program = key_of(registry), _entry(credential), None
            else:
                name, key = helper
                keeper = CredentialHelper(name, self._helper_seconds)
                self._store(keeper, key, credential)
                entry, program = {}, keeper.program
            auths = document["auths"] = section(document, "auths")  # in its old place, where it had one
            for spelling in spellings(auths, registry):
                if spelling != key:
                    del auths[spelling]
            auths[key] = entry
        return program

    def remove(self, registry: str) -> bool:
        """Drop what is kept for `registry`, here and in its helper; whether there was anything.

        Raises: AccessDenied when a helper keeps it nevertheless, after all else is gone; Malformed.
        """
        try:
            self.path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            self._raise_translated(error)
        failure: AccessDenied | None = None
        with self._edited() as document:
            auths = section(document, "auths")
            keys = spellings(auths, registry)
            hidden = HUB_TOKEN_KEYS if registry == DOCKER_HUB else ()
            found = any(key in auths for key in (*keys, *hidden))
            helper = helper_for(document, registry)
            if helper is not None:
                name, asked = helper
                keeper = _Keeper(CredentialHelper(name, self._helper_seconds))
                keeper.erase(dict.fromkeys((asked, *keys, *hidden)))
                # a helper for everything that fails says nothing about this registry
                named = found or keeper.found or asked in section(document, "credHelpers")
                failure = keeper.failure if named else None
                found |= keeper.found
            for key in (*keys, *hidden):
                auths.pop(key, None)
        if failure is not None:
            hint = f"the entry in `{self.path}` is gone; what the helper keeps may still be there"
            raise AccessDenied(failure.message, hint=hint)
        return found

    def _store(self, helper: CredentialHelper, key: str, credential: Credential) -> None:
        token = credential.identity_token
        user, secret = (TOKEN_USER, token) if token else (credential.user, credential.secret)
        try:
            helper.store(key, user, secret)
        except AccessDenied as error:
            hint = f"nothing was saved; `credsStore` and `credHelpers` in `{self.path}` name the helper"
            raise AccessDenied(error.message, hint=hint) from error

    def _check_helper_names(self, document: Document, registry: str) -> None:
        """A helper was meant: a name that cannot be one must not lead to plain text."""
        helpers = section(document, "credHelpers")
        named = [helpers[key] for key in spellings(helpers, registry)] or [document.get("credsStore")]
        if named[0] not in (None, "") and not is_helper_name(named[0]):
            raise self._malformed("names no credential helper in `credsStore` or `credHelpers`")

    @contextmanager
    def _edited(self, *, always: bool = False) -> Iterator[Document]:
        """The content to change; it is written at the end of the block if it was changed, or `always`."""
        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked_draft(target.with_name(f".{target.name}.draft")) as draft:
                document = self._read(target)
                before = json.dumps(document)
                yield document
                if always or json.dumps(document) != before:
                    self._write(draft, document, target)
        except OSError as error:
            self._raise_translated(error)

    def _read(self, target: Path) -> Document:
        try:
            raw = target.read_bytes()
        except FileNotFoundError:
            return {}
        try:
            document = json.loads(raw, parse_constant=_refuse) if raw.strip() else {}
            json.dumps(document, allow_nan=False)  # a number beyond a float's range cannot be written again
        except (ValueError, RecursionError):
            raise self._malformed("is not JSON") from None  # the cause carries the text with its secrets
        if not isinstance(document, dict):
            raise self._malformed("is not a JSON object")
        for name in ("auths", "credHelpers"):
            if document.get(name) is not None and not isinstance(document[name], dict):
                raise self._malformed(f"has `{name}` that is not a JSON object")
        return document

    def _write(self, draft: "_Draft", document: Document, target: Path) -> None:
        raw = (json.dumps(document, indent="\t") + "\n").encode()
        os.fchmod(draft.handle, 0o600)
        os.ftruncate(draft.handle, 0)
        while raw:
            raw = raw[os.write(draft.handle, raw) :]
        with suppress(OSError):  # under sudo the file stays its owner's
            owner = target.stat()
            os.fchown(draft.handle, owner.st_uid, owner.st_gid)
        os.fsync(draft.handle)
        draft.publish(target)

    def _malformed(self, what: str) -> Malformed:
        return Malformed(
            f"`{self.path}` {what}", hint="it was left alone; correct it, or move it away and log in again"
        )

    def _raise_translated(self, error: OSError) -> NoReturn:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            raise DiskFull(f"cannot write `{self.path}`: {reason}", hint="free some space") from error
        raise AccessDenied(
            f"`{self.path}` cannot be used: {reason}",
            hint="check its owner and rights, or set DOCKER_CONFIG to another directory",
        ) from error


class _Keeper:
    """A helper that is made to forget: whether it had something, and what went wrong."""

    def __init__(self, helper: CredentialHelper) -> None:
        self.found = False
        self.failure: AccessDenied | None = None
        self._helper = helper

    def erase(self, keys: Iterable[str]) -> None:
        """Drop what is under `keys`, up to the first failure."""
        try:
            for key in keys:
                if self._helper.get(key) is not None:
                    self.found = True
                    self._helper.erase(key)
        except AccessDenied as error:
            self.failure = error


class _Draft:
    """The next version of a file, locked for us while it is written."""

    def __init__(self, handle: int, path: Path) -> None:
        self.handle = handle
        self.published = False
        self._path = path

    @property
    def current(self) -> bool:
        """Whether the name still belongs to what was opened: another one may have published it meanwhile."""
        try:
            return os.path.samestat(os.fstat(self.handle), self._path.lstat())
        except FileNotFoundError:
            return False

    def publish(self, target: Path) -> None:
        """Take the place of `target`, durably."""
        self._path.replace(target)
        self.published = True
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def close(self) -> None:
        """Release the lock; an unpublished draft is gone."""
        if not self.published and self.current:
            self._path.unlink()
        os.close(self.handle)


@contextmanager
def _locked_draft(path: Path) -> Iterator[_Draft]:
    """The draft at `path`, once nobody else has it."""
    while True:
        draft = _Draft(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), path)
        try:
            fcntl.flock(draft.handle, fcntl.LOCK_EX)
        except BaseException:
            os.close(draft.handle)  # not ours to remove
            raise
        if draft.current:
            break
        os.close(draft.handle)
    try:
        yield draft
    finally:
        draft.close()


def _entry(credential: Credential) -> Document:
    """The entry of `auths` that keeps a credential in the file itself."""
    if credential.identity_token:
        return {"identitytoken": credential.identity_token}
    pair = f"{credential.user}:{credential.secret}".encode()
    return {"auth": base64.b64encode(pair).decode()}


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
