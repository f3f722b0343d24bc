"""A reader of one blob that goes on where a connection broke.

Each piece of the blob is asked for at the registry itself, never at an address that an earlier redirect gave:
those expire. What arrives is not verified here.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from qwenctl.errors import (
    BlobUnknown,
    ConnectionBroken,
    Interrupted,
    QwenctlError,
    RangeIgnored,
    RegistryFailure,
    SizeMismatch,
    Unreachable,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.protocol import parse_content_range
from qwenctl.oci.target import PIECE, Closing
from qwenctl.remote.client import Client, failure
from qwenctl.remote.transport import Request, Response, origin

PROGRESS_BYTES: Final = 64 << 10
"""A connection that brought so much was worth it: the count of failures begins anew."""

Ask = Callable[[Request], Response]


class Download(Closing):
    """The content of `descriptor` from a byte on, or a piece of it; the caller closes it.

    A connection that breaks, stalls, crawls or ends early is replaced after the policy's delays, as long as
    each brings something; then the error names blob, server, attempts and cause.
    """

    def __init__(
        self,
        client: Client,
        ask: Ask,
        url: str,
        descriptor: Descriptor,
        offset: int,
        length: int | None = None,
    ) -> None:
        self._client, self._ask, self._url = client, ask, url
        self._descriptor = descriptor
        self._position = self._failed_at = offset
        self._end = descriptor.size if length is None else min(descriptor.size, offset + length)
        self._whole = length is None
        self._skips = length is None or offset == 0
        self._failures = 0
        self._closed = False
        self._response: Response | None = None
        if offset < self._end:
            self._connect()

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`. Raises: Unreachable, RegistryFailure, Unauthorized, BlobUnknown, SizeMismatch."""
        while self._response is not None:
            try:
                count = self._response.readinto(buffer if self._whole else self._within(buffer))
            except Unreachable as error:
                if self._position >= self._end:
                    return 0  # all is here; the end of the connection was no concern of ours
                self._pause(error)
                self._connect()
                continue
            self._position += count
            if count or self._position >= self._end:
                self._finish()
                return count
            self._pause(self._ended_early())
            self._connect()
        return 0

    def close(self) -> None:
        """Drop the connection. Another thread that reads gets an error."""
        self._closed = True
        if self._response is not None:
            self._response.close()

    def _within(self, buffer: memoryview) -> memoryview:
        """The part of `buffer` that the piece may still fill: a server may send more than was asked for."""
        return buffer[: max(0, self._end - self._position)]

    def _finish(self) -> None:
        """See the end of a piece that was sent as one, so that its connection can be used again."""
        if (
            not self._whole
            and self._position == self._end
            and self._response
            and self._response.status == 206
        ):
            with suppress(Unreachable):
                self._response.readinto(memoryview(bytearray(1)))

    def _ended_early(self) -> SizeMismatch:
        return SizeMismatch(
            f"`{self._client.base}` ended after {self._position} of {self._descriptor.size} bytes",
            hint="the content was cut short; try again",
        )

    def _pause(self, error: QwenctlError) -> None:
        """Wait before the next try. Raises: `error`, with the whole story, when it is not worth another."""
        if self._closed:
            raise Interrupted("the download was closed") from error
        if self._position - self._failed_at >= PROGRESS_BYTES:
            self._failures = 0
        self._failed_at = self._position
        self._failures += 1
        delay = self._client.delay(self._failures)
        if delay is None:
            raise self._told(error, f" after {self._failures} attempts") from error
        self._client.clock.sleep(delay)

    def _told(self, error: QwenctlError, attempts: str) -> QwenctlError:
        if str(self._descriptor.digest) in error.message:
            return error
        message = f"{error.message}; gave up on `{self._descriptor.digest}`{attempts}"
        return type(error)(message, hint=error.hint)

    def _connect(self) -> None:
        """A response from the current position on."""
        if self._response is not None:
            self._response.close()
        while True:
            try:
                self._response = self._asked()
                return
            except Unreachable as error:
                if isinstance(error, ConnectionBroken):  # tried often enough
                    raise self._told(error, "") from error
                self._pause(error)
            except RegistryFailure as error:
                raise self._told(error, "") from error

    def _asked(self) -> Response:
        first, last = self._position, self._end - 1
        # The closed form: some registries answer the open one, `bytes=N-`, with 416.
        part = first > 0 or self._end < self._descriptor.size
        response = self._ask(Request("GET", self._url, {"Range": f"bytes={first}-{last}"} if part else {}))
        if part and (response.status == 416 or (response.status == 206 and not self._is_at(response, first))):
            response.close()  # it knows no ranges, or not these
            response = self._ask(Request("GET", self._url))
        if self._client.is_expired(response):
            raise Unreachable(failure(response, f"the download of `{self._descriptor.digest}`").message)
        if response.status == 404:
            response.close()
            raise BlobUnknown(f"`{self._client.base}` does not have `{self._descriptor.digest}`")
        if response.status not in (200, 206):
            raise failure(response, f"the download of `{self._descriptor.digest}`")
        self._check(response)
        return self._skipped_to(response, first) if response.status == 200 else response

    def _is_at(self, response: Response, first: int) -> bool:
        """Whether a part begins where it was asked for."""
        part = parse_content_range(response.headers.get("content-range"))
        return part is not None and part[0] == first

    def _check(self, response: Response) -> None:
        """Raises: RegistryFailure for what is no content, SizeMismatch for what is announced too long."""
        digest, size = f"`{self._descriptor.digest}`", self._descriptor.size
        page = response.headers.get("content-type", "").startswith("text/html")
        if page and response.length != size and response.status == 200:
            response.close()
            raise RegistryFailure(
                f"`{origin(response.url)}` answers with a web page instead of {digest}",
                hint="the network may want you to log in first",
            )
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            response.close()
            raise RegistryFailure(f"`{self._client.base}` sends {digest} encoded, which was not asked for")
        announced = response.length
        if response.status == 206:
            part = parse_content_range(response.headers.get("content-range"))
            announced = part[2] if part else None
        if announced is not None and (announced > size or (response.status == 206 and announced != size)):
            response.close()
            raise SizeMismatch(
                f"`{self._client.base}` has {announced} bytes under {digest}, not the {size} of its manifest"
            )

    def _skipped_to(self, response: Response, first: int) -> Response:
        """For a server that ignores ranges: read and drop what is here already. Raises: RangeIgnored."""
        if not self._skips:
            response.close()
            raise RangeIgnored(f"`{self._client.base}` sends `{self._descriptor.digest}` as a whole only")
        scratch = memoryview(bytearray(min(PIECE, max(first, 1))))
        try:
            while first and (count := response.readinto(scratch[: min(first, len(scratch))])):
                first -= count
        except ConnectionBroken as error:  # not yet tried often enough
            response.close()
            raise Unreachable(error.message, hint=error.hint) from error
        return response
