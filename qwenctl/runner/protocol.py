"""HTTP/1.1 as uvicorn speaks it, with clients that must be quick where quickness is in their hands."""

import asyncio
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Protocol(H11Protocol):
    """A connection that is closed when its client drips the head of a request, or stops to read an answer.

    Else either would hold what it holds, a model perhaps, for ever. How long an answer takes is no matter.
    """

    head_seconds: ClassVar[float] = 30.0
    """From the connection, or the first byte of a further request, to the end of its head."""
    stall_seconds: ClassVar[float] = 300.0
    """Without a byte of the answer read, once the buffers between are full."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._stall = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().resume_writing()
        _cancel(self._stall)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        _cancel(self._head)
        _cancel(self._stall)
        super().connection_lost(exc)

    def _watch_head(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            _cancel(self._head)
            self._head = None
        elif self._head is None:
            self._head = self.loop.call_later(self.head_seconds, self.timeout_keep_alive_handler)


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
