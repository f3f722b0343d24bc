"""Upload sessions: bytes that arrive in order and become a blob at the end.

A session lives in memory and its bytes in the store's `ingest` directory; after a restart the session is
unknown (404) and the client begins again. Sessions that nothing was sent to for a day are dropped, and so
are files that a killed server left: not younger ones, another server may be at work on the same store.

The bytes are hashed once, when the session ends: the store proves what it takes in, whoever brings it.

Source: distribution-spec v1.1.1, "Pushing a blob in chunks".
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import Final
from uuid import uuid4

from qwenctl.errors import DigestMismatch, SizeMismatch
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest, Verifier
from qwenctl.oci.protocol import ErrorCode, parse_chunk_range
from qwenctl.oci.target import PIECE
from qwenctl.registry.answers import Refusal
from qwenctl.store.disk import translated
from qwenctl.store.store import BYTES, Store

STALE_SECONDS: Final = 86_400.0
_PREFIX: Final = "upload-"


@dataclass(slots=True)
class Upload:
    """One session. Its lock is held by who writes to it or ends it."""

    id: str
    repository: str
    path: Path
    offset: int = 0
    touched_seconds: float = 0.0
    lock: Lock = field(default_factory=Lock)

    @property
    def location(self) -> str:
        """Where the next request of the session goes."""
        return f"/v2/{self.repository}/blobs/uploads/{self.id}"

    @property
    def range(self) -> str:
        """The bytes that are stored; `0-0` also when there are none, as the specification has it."""
        return f"0-{max(self.offset - 1, 0)}"


def fits(offset: int, content_range: str | None, length: int | None) -> bool:
    """Whether a chunk may be appended at `offset`: it says no range, or just the right one.

    `length` is its Content-Length, None when it is sent without.
    """
    if content_range is None:
        return True
    chunk = parse_chunk_range(content_range)
    if chunk is None or chunk[0] != offset or chunk[1] < chunk[0]:
        return False
    return length is None or length == chunk[1] - chunk[0] + 1


class Uploads:
    """All sessions of a server. Any thread may call. `clock` gives seconds since the epoch."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._sessions: dict[str, Upload] = {}
        self._directory = store.layout.disk.make_directory(store.layout.ingests)
        self._sweep()

    def start(self, repository: str) -> Upload:
        """A new session, of which nothing has arrived."""
        self._drop_stale()
        name = str(uuid4())
        path = self._directory / f"{_PREFIX}{name}"
        with translated(path):
            path.touch(0o600)
        upload = Upload(name, repository, path, touched_seconds=self._clock())
        self._sessions[name] = upload
        return upload

    def get(self, repository: str, name: str) -> Upload:
        """The session. Raises: Refusal with 404 BLOB_UPLOAD_UNKNOWN."""
        upload = self._sessions.get(name)
        if upload is None or upload.repository != repository:
            raise Refusal(404, ErrorCode.BLOB_UPLOAD_UNKNOWN, f"no upload `{name}`")
        return upload

    @contextmanager
    def opened(self, upload: Upload) -> Iterator[FileIO]:
        """The session's file at the place of the next byte; what a failed write left after it is cut off."""
        with translated(upload.path):
            file = upload.path.open("r+b", buffering=0)
        with file:
            with translated(upload.path):
                file.truncate(upload.offset)
                file.seek(upload.offset)
            yield file

    def append(self, upload: Upload, file: FileIO, piece: bytes | bytearray) -> None:
        """Write the next bytes of the session. Raises: DiskFull, AccessDenied; the session goes on."""
        self._store.layout.disk.write(file, memoryview(piece))
        upload.offset += len(piece)
        upload.touched_seconds = self._clock()

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Make the session a blob. Raises: Refusal with 400 DIGEST_INVALID, and the session is gone."""
        descriptor = Descriptor(BYTES, digest, upload.offset)
        try:
            if self._store.exists(descriptor):  # then the store would not look at these bytes
                _prove(upload.path, descriptor)
            self._store.adopt(descriptor, upload.path)
        except (DigestMismatch, SizeMismatch) as error:
            self.drop(upload)
            raise Refusal(400, ErrorCode.DIGEST_INVALID, error.message) from error
        self._sessions.pop(upload.id, None)

    def drop(self, upload: Upload) -> None:
        """End a session and forget its bytes."""
        self._sessions.pop(upload.id, None)
        self._store.layout.disk.unlink(upload.path)

    def _drop_stale(self) -> None:
        oldest = self._clock() - STALE_SECONDS
        for upload in [item for item in self._sessions.values() if item.touched_seconds < oldest]:
            self.drop(upload)

    def _sweep(self) -> None:
        oldest = self._clock() - STALE_SECONDS
        with translated(self._directory):
            for left in self._directory.glob(f"{_PREFIX}*"):
                if left.stat().st_mtime < oldest:
                    left.unlink(missing_ok=True)


def _prove(path: Path, descriptor: Descriptor) -> None:
    """Raises: DigestMismatch, SizeMismatch."""
    verifier, buffer = Verifier(descriptor.digest, descriptor.size), memoryview(bytearray(PIECE))
    with translated(path), path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            verifier.update(buffer[:count])
    verifier.finish()
