"""A reader of one blob that goes on where a connection broke.

Each piece of the blob is asked for at the registry itself, never at an address that an earlier redirect gave:
those expire. What arrives is not verified here.
"""

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from qwenctl.errors import BlobUnknown, RangeIgnored, RegistryFailure, Unreachable
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.protocol import parse_content_range
from qwenctl.oci.target import PIECE
from qwenctl.remote.client import Client, failure
from qwenctl.remote.transport import Request, Response

_SCRATCH: Final = 64 * 1024

Ask = Callable[[Request], Response]


class Download:
    """The content of `descriptor` from a byte on, or a piece of it; the caller closes it.

    Reconnects as long as there is progress between two breaks, else after the policy's delays; gives up
    with the last error. A body that ends early without an error ends the reader when it has ended early
    too often: its size is then found wrong by who verifies.
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
        self._position = offset
        self._end = descriptor.size if length is None else min(descriptor.size, offset + length)
        self._whole = length is None
        self._skips = length is None or offset == 0
        self._failures = 0
        self._response = self._connect() if offset < self._end else None

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`. Raises: Unreachable, RegistryFailure, Unauthorized, BlobUnknown."""
        while self._response is not None:
            try:
                count = self._response.readinto(buffer if self._whole else self._within(buffer))
            except Unreachable as error:
                self._pause(error)
                self._reconnect()
                continue
            if count:
                self._failures = 0
                self._position += count
                self._finish()
                return count
            if self._position >= self._end or not self._may_go_on():
                return 0
            self._reconnect()
        return 0

    def close(self) -> None:
        """Drop the connection."""
        if self._response is not None:
            self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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

    def _may_go_on(self) -> bool:
        """After a body that ended early: whether another try is worth it; waits for it."""
        self._failures += 1
        delay = self._client.delay(self._failures)
        if delay is None:
            return False
        self._client.clock.sleep(delay)
        return True

    def _pause(self, error: Unreachable) -> None:
        if not self._may_go_on():
            name = f"`{self._descriptor.digest}`"
            message = f"{error.message}; gave up on {name} after {self._failures} attempts"
            raise type(error)(message, hint=error.hint) from error

    def _reconnect(self) -> None:
        self.close()
        while True:
            try:
                self._response = self._connect()
                return
            except Unreachable as error:
                self._pause(error)

    def _connect(self) -> Response:
        """The answer from the current position on."""
        first, last = self._position, self._end - 1
        # The closed form: some registries answer the open one, `bytes=N-`, with 416.
        part = first > 0 or self._end < self._descriptor.size
        headers = {"Range": f"bytes={first}-{last}"} if part else {}
        response = self._ask(Request("GET", self._url, headers))
        if response.status == 416 and part:
            response.close()
            response = self._ask(Request("GET", self._url))
        if response.status == 206:
            return self._checked_part(response, first)
        if response.status == 200:
            return self._skipped_to(response, first)
        if response.status == 404:
            response.close()
            raise BlobUnknown(f"`{self._client.base}` does not have `{self._descriptor.digest}`")
        raise failure(response, f"the download of `{self._descriptor.digest}`")

    def _checked_part(self, response: Response, first: int) -> Response:
        part = parse_content_range(response.headers.get("content-range"))
        if part is None or part[0] != first:
            response.close()
            raise RegistryFailure(f"`{self._client.base}` sent another range than the one asked for")
        return response

    def _skipped_to(self, response: Response, first: int) -> Response:
        """For a server that ignores ranges: read and drop what is here already. Raises: RangeIgnored."""
        if not self._skips:
            response.close()
            raise RangeIgnored(f"`{self._client.base}` sends `{self._descriptor.digest}` as a whole only")
        scratch = memoryview(bytearray(min(PIECE, max(first, 1))))
        while first and (count := response.readinto(scratch[: min(first, len(scratch))])):
            first -= count
        return response
