"""One blob to a registry: whole in a single PUT, else in chunks when the registry wants that.

Source: distribution-spec v1.1.1, "Pushing blobs". A single PUT is the form that every registry takes; some
limit the size of one request, and then chunks are tried with what they ask for.
"""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from qwenctl.errors import QwenctlError, RegistryFailure, RemoteError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Verifier
from qwenctl.oci.protocol import CHUNK_MIN_LENGTH, parse_chunk_range, uploads_path
from qwenctl.oci.target import Content, Reader, read_bytes
from qwenctl.remote.client import Client, failure
from qwenctl.remote.transport import Request, Response

_CHUNK: Final = 4 * 1024 * 1024  # bytes; GHCR takes no more in one PATCH
_CHUNK_LIMIT: Final = 256 * 1024 * 1024
_TOO_LARGE: Final = frozenset({405, 411, 413, 416, 501})

Ask = Callable[[Request], Response]


def upload(client: Client, ask: Ask, repository: str, descriptor: Descriptor, content: Content) -> None:
    """Send `content`, proved on this side too: a damaged blob here is not the registry's fault.

    Raises: RemoteError, SizeMismatch, DigestMismatch; the upload is given up then.
    """
    content = _verified(content, descriptor)
    if not descriptor.size:  # an empty request is complete before its content is looked at
        read_bytes(content(0), 0)
    started = ask(Request("POST", uploads_path(repository), body=b""))
    if started.status == 201:
        started.close()
        return
    if started.status != 202:
        raise failure(started, "the start of an upload")
    location = _location(client, started)
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


class _VerifiedReader:
    def __init__(self, reader: Reader, verifier: Verifier) -> None:
        self._reader, self._verifier = reader, verifier

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer)
        if count:
            self._verifier.update(buffer[:count])
        else:
            self._verifier.finish()
        return count

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
    position = 0
    with content(0) as reader:
        while chunk := _read_chunk(reader, size):
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{position}-{position + len(chunk) - 1}",
            }
            response = ask(Request("PATCH", location, headers, chunk))
            if response.status != 202:
                raise failure(response, f"a chunk of `{descriptor.digest}`")
            stored = parse_chunk_range(response.headers.get("range"))
            position += len(chunk)
            if stored is not None and stored[1] != position - 1:
                response.close()
                raise RegistryFailure(f"`{client.base}` kept {stored[1] + 1} of {position} bytes")
            location = _location(client, response)
            response.close()
    return location


def _read_chunk(reader: Reader, size: int) -> bytes:
    buffer, filled = memoryview(bytearray(size)), 0
    while filled < size and (count := reader.readinto(buffer[filled:])):
        filled += count
    return bytes(buffer[:filled])


def _location(client: Client, response: Response) -> str:
    location = response.headers.get("location")
    if not location:
        raise RegistryFailure(f"`{client.base}` started an upload without saying where")
    return client.resolve_url(location, response.url)


def _with_digest(location: str, descriptor: Descriptor) -> str:
    return f"{location}{'&' if '?' in location else '?'}digest={descriptor.digest}"
