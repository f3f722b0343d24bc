"""Upload sessions: bytes that arrive in order, hashed as they come, and become a blob at the end.

A session lives in memory and its bytes in the store's `ingest` directory; after a restart the session is
unknown (404) and the client begins again. Sessions that nothing was sent to for a day are dropped.

Source: distribution-spec v1.1.1, "Pushing a blob in chunks".
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO
from uuid import uuid4

from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Algorithm, Digest
from qwenctl.oci.protocol import ErrorCode, parse_chunk_range
from qwenctl.registry.answers import Refusal
from qwenctl.store.store import BYTES, Store

STALE_SECONDS = 86_400.0
_PREFIX = "upload-"


@dataclass(slots=True)
class Upload:
    """One session. Its lock is held by who writes to it or ends it."""

    id: str
    repository: str
    path: Path
    hash: "hashlib._Hash"
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
    """All sessions of a server. Any thread may call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, Upload] = {}
        self._directory = store.layout.ingests
        self._directory.mkdir(exist_ok=True)
        for left in self._directory.glob(f"{_PREFIX}*"):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink(missing_ok=True)

    def start(self, repository: str, algorithm: Algorithm) -> Upload:
        """A new session whose bytes are hashed with `algorithm`."""
        self._drop_stale()
        name = str(uuid4())
        path = self._directory / f"{_PREFIX}{name}"
        path.touch(0o600)
        now = time.monotonic()
        upload = Upload(name, repository, path, hashlib.new(algorithm), touched_seconds=now)
        self._sessions[name] = upload
        return upload

    def get(self, repository: str, name: str) -> Upload:
        """The session. Raises: Refusal with 404 BLOB_UPLOAD_UNKNOWN."""
        upload = self._sessions.get(name)
        if upload is None or upload.repository != repository:
            raise Refusal(404, ErrorCode.BLOB_UPLOAD_UNKNOWN, f"no upload `{name}`")
        return upload

    def append(self, upload: Upload, file: BinaryIO, piece: bytes) -> None:
        """Write the next bytes at the end of the session's file."""
        file.write(piece)
        upload.hash.update(piece)
        upload.offset += len(piece)
        upload.touched_seconds = time.monotonic()

    def finish(self, upload: Upload, digest: Digest) -> None:
        """Make the session a blob. Raises: Refusal with 400 DIGEST_INVALID, and the session is gone."""
        actual = self._digest(upload, digest.algorithm)
        if actual != digest:
            self.drop(upload)
            raise Refusal(400, ErrorCode.DIGEST_INVALID, f"expected `{digest}`, got `{actual}`")
        descriptor = Descriptor(BYTES, digest, upload.offset)
        self._sessions.pop(upload.id, None)
        self._store.adopt(descriptor, upload.path)

    def drop(self, upload: Upload) -> None:
        """End a session and forget its bytes."""
        self._sessions.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)

    def _digest(self, upload: Upload, algorithm: Algorithm) -> Digest:
        if upload.hash.name == algorithm:
            return Digest(algorithm, upload.hash.hexdigest())
        with upload.path.open("rb") as file:
            return Digest(algorithm, hashlib.file_digest(file, algorithm).hexdigest())

    def _drop_stale(self) -> None:
        oldest = time.monotonic() - STALE_SECONDS
        for upload in [item for item in self._sessions.values() if item.touched_seconds < oldest]:
            self.drop(upload)
