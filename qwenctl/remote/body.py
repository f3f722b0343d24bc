"""The body of a large answer, read in large pieces straight from the socket into the caller's buffer.

The HTTP library reads at most 64 KiB at a time, 16 KiB over TLS, and copies each several times: a third of
the speed and twice the processor time. It does what it is good at, up to the headers; then this takes over,
and the connection ends with the body.
"""

import socket
import ssl
import time
from contextlib import suppress
from typing import Any, Final

LEAST_BYTES: Final = 4 << 20
"""A shorter body is not worth its connection."""
FLUSH_SECONDS: Final = 0.1
"""A slow line's bytes are given on after this time, though the buffer is not full."""


class EndedEarly(OSError):
    """The connection was closed in the middle of the body."""


class DirectBody:
    """So many bytes that are still to come from a socket. One thread reads; any may close."""

    def __init__(self, connection: socket.socket, length: int, silence_seconds: float) -> None:
        self._connection = connection
        self._left = length
        connection.settimeout(silence_seconds)

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`. What came before an error is given first. Raises: OSError, TimeoutError."""
        filled, wanted = 0, min(len(buffer), self._left)
        end = time.monotonic() + FLUSH_SECONDS
        while filled < wanted:
            try:
                count = self._connection.recv_into(buffer[filled:wanted])
                if not count:
                    raise EndedEarly(f"closed with {self._left - filled} bytes missing")
            except OSError:
                if not filled:
                    raise
                break  # comes again at the next call
            filled += count
            if time.monotonic() > end:
                break
        self._left -= filled
        return filled

    def close(self) -> None:
        """Wake who reads, which a mere close would not."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def take_over(stream: Any, *, secure: bool, length: int, silence_seconds: float) -> DirectBody | None:
    """The rest of a body of which the library has nothing left in its hands; None where it must go on itself.

    `stream` is the library's network stream, `secure` whether the bytes are encrypted: where TLS runs in
    TLS through a proxy, the socket at hand is not the one that decrypts.
    """
    connection = stream.get_extra_info("socket") if stream is not None else None
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket) != secure:
        return None
    return DirectBody(connection, length, silence_seconds)
