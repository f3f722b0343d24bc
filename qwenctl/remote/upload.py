"""One blob to a registry: whole in a single PUT, else in chunks when the registry wants that.

Source: distribution-spec v1.1.1, "Pushing blobs". A single PUT is the form that every registry takes; some
limit the size of one request, and then chunks are tried with what they ask for.
"""

from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Thread
from typing import Final

from qwenctl.errors import ConnectionBroken, QwenctlError, RegistryFailure, RemoteError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Verifier, too_long
from qwenctl.oci.protocol import CHUNK_MIN_LENGTH, parse_chunk_range
from qwenctl.oci.target import Closing, Content, Reader, read_bytes
from qwenctl.remote.client import Client, failure
from qwenctl.remote.transport import Request, Response, origin

_CHUNK: Final = 4 * 1024 * 1024  # bytes; GHCR takes no more in one PATCH
_CHUNK_LIMIT: Final = 256 * 1024 * 1024
_PIECES_AHEAD: Final = 4  # that wait to be hashed
_LOSSES: Final = 5  # answers that say that not all of a chunk was kept
_TOO_LARGE: Final = frozenset({405, 411, 413, 416, 501})

Ask = Callable[[Request], Response]
Begin = Callable[[], Response]


def upload(client: Client, ask: Ask, begin: Begin, descriptor: Descriptor, content: Content) -> None:
    """Send `content`, proved on this side too: a damaged blob here is not the registry's fault.

    `begin` makes the first request of a session. A connection that breaks costs the session; another one
    begins after the policy's delay, with the content opened again.

    Raises: RemoteError, SizeMismatch, DigestMismatch; the upload is given up then.
    """
    content = _verified(content, descriptor)
    if not descriptor.size:  # an empty request is complete before its content is looked at
        read_bytes(content(0), 0)
    attempt = 0
    while True:
        attempt += 1
        try:
            return _upload(client, ask, begin, descriptor, content)
        except ConnectionBroken as error:
            delay = client.delay(attempt)
            if delay is None:
                raise ConnectionBroken(
                    f"{error.message}; gave up on `{descriptor.digest}` after {attempt} attempts",
                    hint="try again; what is there already is not sent again",
                ) from error
            client.clock.sleep(delay)


def _upload(client: Client, ask: Ask, begin: Begin, descriptor: Descriptor, content: Content) -> None:
    """One session, from the first request to the last."""
    what = f"the upload of `{descriptor.digest}`"
    started = begin()
    if started.status == 201:
        started.close()
        return
    if started.status != 202:
        raise failure(started, what)
    location = _location(client, started, what)
    least = int(started.headers.get(CHUNK_MIN_LENGTH.lower(), "0") or "0")
    started.close()
    try:
        _send(client, ask, location, descriptor, content, least)
    except (QwenctlError, KeyboardInterrupt):
        with suppress(RemoteError):
            ask(Request("DELETE", location)).close()
        raise


def _verified(content: Content, descriptor: Descriptor) -> Content:
    """The same content, whose readers raise at their end when it was not what `descriptor` says."""

    def reopen(offset: int) -> Reader:
        assert offset == 0, "an upload begins at the beginning"
        return _VerifiedReader(content(0), Verifier(descriptor.digest, descriptor.size))

    return reopen


class _VerifiedReader(Closing):
    """Hashes what it gives in a second thread, and holds back the last piece until that has agreed."""

    def __init__(self, reader: Reader, verifier: Verifier) -> None:
        self._reader, self._verifier = reader, verifier
        self._left = verifier.size
        self._hashing = Thread(target=self._hash, daemon=True)
        self._pieces: Queue[bytes | None] = Queue(_PIECES_AHEAD)
        self._error: QwenctlError | None = None
        self._hashing.start()

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer)
        self._left -= count
        if count and not self._hashing.is_alive():  # what was proved goes on
            raise self._error or too_long(self._verifier.digest, self._verifier.size)
        if count:
            self._pieces.put(bytes(buffer[:count]))
        if (self._left <= 0 or not count) and self._hashing.is_alive():
            self._pieces.put(None)
            self._hashing.join()
        if self._error is not None:
            raise self._error
        return count

    def close(self) -> None:
        if self._hashing.is_alive():
            self._pieces.put(None)
        self._reader.close()

    def _hash(self) -> None:
        while (piece := self._pieces.get()) is not None:
            try:
                if self._error is None:
                    self._verifier.update(piece)
            except QwenctlError as error:
                self._error = error
        try:
            if self._error is None:
                self._verifier.finish()
        except QwenctlError as error:
            self._error = error


def _send(
    client: Client, ask: Ask, location: str, descriptor: Descriptor, content: Content, least: int
) -> None:
    whole = Request(
        "PUT",
        _with_digest(location, descriptor),
        {"Content-Type": "application/octet-stream"},
        lambda: content(0),
        descriptor.size,
    )
    response = ask(whole)
    if response.status in (201, 204):
        response.close()
        return
    if response.status not in _TOO_LARGE:
        raise failure(response, f"the upload of `{descriptor.digest}`")
    response.close()
    location = _send_chunks(client, ask, location, descriptor, content, max(least, _CHUNK))
    closing = ask(Request("PUT", _with_digest(location, descriptor), body=b""))
    if closing.status not in (201, 204):
        raise failure(closing, f"the upload of `{descriptor.digest}`")
    closing.close()


def _send_chunks(
    client: Client, ask: Ask, location: str, descriptor: Descriptor, content: Content, size: int
) -> str:
    """All chunks in order; the location for the closing PUT."""
    if size > _CHUNK_LIMIT:
        raise RegistryFailure(f"`{client.base}` wants chunks of {size} bytes, more than we hold in memory")
    position = losses = 0
    what = f"the upload of `{descriptor.digest}`"
    with content(0) as reader:
        chunk = _read_chunk(reader, size)
        while chunk:
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{position}-{position + len(chunk) - 1}",
            }
            response = ask(Request("PATCH", location, headers, chunk))
            if response.status != 202:
                raise failure(response, f"a chunk of `{descriptor.digest}`")
            location = _location(client, response, what)
            stored = parse_chunk_range(response.headers.get("range"))
            response.close()
            kept = len(chunk) if stored is None else stored[1] + 1 - position
            losses += kept != len(chunk)
            if not 0 <= kept <= len(chunk) or losses > _LOSSES:
                raise RegistryFailure(
                    f"`{client.base}` kept {position + kept} of {position + len(chunk)} bytes in {what}"
                )
            position += kept
            chunk = chunk[kept:] or _read_chunk(reader, size)
    return location


def _read_chunk(reader: Reader, size: int) -> bytes:
    buffer, filled = memoryview(bytearray(size)), 0
    while filled < size and (count := reader.readinto(buffer[filled:])):
        filled += count
    return bytes(buffer[:filled])


def _location(client: Client, response: Response, what: str) -> str:
    """Where the next request of a session goes. Raises: RegistryFailure."""
    location = response.headers.get("location")
    if not location:
        raise RegistryFailure(f"`{client.base}` says not where {what} goes on")
    target = client.resolve_url(location, response.url)
    if client.base.startswith("https:") and not target.startswith("https:"):
        raise RegistryFailure(f"`{client.base}` wants {what} to go to `{origin(target)}` without TLS")
    return target


def _with_digest(location: str, descriptor: Descriptor) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"
