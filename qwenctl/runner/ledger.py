"""What was asked of the runner: the last requests, and counts of all. The pool writes, whatever the door.

An entry begins where a request arrives (`arrive`, on the HTTP side) or, without a door, where it wants a
model (`recording`). What one request asks of models, several times perhaps, adds to its one entry. Bodies are
kept only where the user wants them, and everything within bounds. Belongs to one event loop.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

import msgspec

from qwenctl.api.doors import door_of
from qwenctl.api.failures import CLIENT_CLOSED_REQUEST
from qwenctl.errors import QwenctlError
from qwenctl.runner.messages import RequestRecord
from qwenctl.runner.totals import Totals
from qwenctl.runtime.events import Event, Finished, PromptProcessed, TextDelta

KEPT_REQUESTS: Final = 1000
KEPT_BODY_BYTES: Final = 1024 * 1024
"""Of one body; a longer request is left out, a longer answer cut."""
KEPT_BODIES_BYTES: Final = 32 * 1024 * 1024
"""Of all bodies together; the oldest go first."""

_NAME_LIMIT: Final = 200  # a path or a name is the client's to choose
_log: Final = logging.getLogger("qwenctl.requests")


class Entry:
    """One request, while it is under way and afterwards."""

    def __init__(self, id: int, method: str = "", path: str = "") -> None:
        self.id = id
        self.method, self.path = method, path[:_NAME_LIMIT]
        self.status: int | None = None
        self.answered = False
        """Whether the client got all of an answer."""
        self.number = 0
        self.known = False
        self.model: str | None = None
        self.kind: str | None = None
        self.ended: str | None = None
        self.error: str | None = None
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.completion_seconds = 0.0
        self.first_token_seconds: float | None = None
        self.request: bytes | None = None
        self.answer: list[str] | None = None
        self._answer_bytes = 0
        self._time = datetime.now(UTC)
        self._began_seconds = time.perf_counter()
        self._seconds: float | None = None

    @property
    def door(self) -> str:
        """The API that it came by."""
        return door_of(self.path) if self.path else ""

    @property
    def seconds(self) -> float:
        """From its arrival to its end, or until now."""
        return time.perf_counter() - self._began_seconds if self._seconds is None else self._seconds

    @property
    def body_bytes(self) -> int:
        """What its recorded bodies take."""
        return len(self.request or b"") + self._answer_bytes

    def hear(self, event: Event) -> None:
        """Adds what the engine says."""
        match event:
            case TextDelta():
                self.completion_tokens += event.tokens
                if self.answer is not None and self._answer_bytes < KEPT_BODY_BYTES:
                    self.answer.append(event.text)
                    self._answer_bytes += len(event.text.encode("utf-8", "replace"))
            case PromptProcessed():
                self.first_token_seconds = self.first_token_seconds or self.seconds
                self.prompt_tokens += event.prompt_tokens
                self.cached_tokens += event.cached_tokens
            case Finished(reason, usage):
                self.ended = reason
                self.completion_seconds += usage.completion_seconds

    def fail(self, error: QwenctlError) -> None:
        """It ends with an error, unless it has ended."""
        if self.ended is None:
            self.ended, self.error = error.code, error.message

    def record_bodies(self, request: object) -> None:
        """From now on its bodies are kept."""
        if self.request is None:
            encoded = msgspec.json.encode(request)
            fits = len(encoded) <= KEPT_BODY_BYTES
            self.request = encoded if fits else msgspec.json.encode(f"({len(encoded)} bytes, not kept)")
            self.answer = []

    def forget_bodies(self) -> None:
        """Drops the recorded bodies."""
        self.request, self.answer, self._answer_bytes = None, None, 0

    def end(self, number: int) -> None:
        """Stops the clock."""
        self.number, self._seconds = number, self.seconds
        if self.ended == "cancelled" and self.answered and (self.status or 0) < 400:
            self.ended = "stop"  # the door had what it wanted before the model was done
        left = "cancelled" if self.status == CLIENT_CLOSED_REQUEST else "refused"
        self.ended = self.ended or ("done" if (self.status or 200) < 400 else left)

    def record(self, *, bodies: bool) -> RequestRecord:
        """As it is now."""
        rate = self.completion_tokens / self.completion_seconds if self.completion_seconds else None
        return RequestRecord(
            id=self.id,
            number=self.number,
            time=self._time,
            door=self.door,
            method=self.method,
            path=self.path,
            model=self.model,
            kind=self.kind,
            status=self.status,
            ended=self.ended if self.number else None,
            error=self.error,
            prompt_tokens=self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            first_token_seconds=self.first_token_seconds,
            seconds=self.seconds,
            tokens_per_second=rate,
            request=msgspec.Raw(self.request) if bodies and self.request else None,
            answer="".join(self.answer) if bodies and self.answer is not None else None,
        )


_arrived: ContextVar[Entry | None] = ContextVar("_arrived", default=None)
"""The request that this task works for; the pool finds it there, so that no door has to hand it on."""


class Ledger:
    """The last `KEPT_REQUESTS` requests, those under way included, and the totals of all."""

    def __init__(self, *, records_bodies: bool = False) -> None:
        self._records_bodies = records_bodies
        self._running: dict[int, Entry] = {}
        self._over: deque[Entry] = deque(maxlen=KEPT_REQUESTS)
        self._with_bodies: deque[Entry] = deque()
        self._bodies_bytes = 0
        self._ids = self._numbers = 0
        self.totals = Totals()

    @contextmanager
    def arrive(self, method: str, path: str) -> Iterator[Entry]:
        """A request by a door, until it is answered. It counts if it wants a model, is refused, or fails."""
        self._ids += 1
        entry = Entry(self._ids, method, path)
        token = _arrived.set(entry)
        try:
            yield entry
        finally:
            _arrived.reset(token)
            if entry.model is not None or entry.error is not None or (entry.status or 0) >= 400:
                self._end(entry)

    @contextmanager
    def recording(self, kind: str, model: str) -> Iterator[Entry]:
        """The entry of a request that wants a model, while it is under way."""
        entry = _arrived.get()
        alone = entry is None
        if entry is None:
            self._ids += 1
            entry = Entry(self._ids)
        entry.model, entry.kind, entry.ended = model[:_NAME_LIMIT], kind, None
        self._running[entry.id] = entry
        try:
            yield entry
        except QwenctlError as error:
            entry.fail(error)
            raise
        except BaseException:  # the client left, or the runner ends
            entry.ended = entry.ended or "cancelled"
            raise
        finally:
            if alone:
                self._end(entry)

    def meet(self, entry: Entry, model: str, request: object, *, bodies: bool) -> None:
        """The name it gave means `model`. With `bodies`, or where all are kept, its bodies are kept too."""
        entry.model, entry.known = model, True
        if bodies or self._records_bodies:
            entry.record_bodies(request)

    def records(
        self, model: str | None = None, *, limit: int = KEPT_REQUESTS, after: int = 0, bodies: bool = False
    ) -> list[RequestRecord]:
        """The last `limit` requests (of a model), by their ends, then those under way.

        `after` is the number of the last one that the caller knows: only later ends are given then.
        """
        running = [] if after else sorted(self._running.values(), key=lambda entry: entry.id)
        entries = [entry for entry in (*self._over, *running) if model in (None, entry.model)]
        chosen = [entry for entry in entries if entry.number > after or not after]
        return [entry.record(bodies=bodies) for entry in chosen[-limit:]] if limit > 0 else []

    def _end(self, entry: Entry) -> None:
        self._running.pop(entry.id, None)
        self._numbers += 1
        entry.end(self._numbers)
        self._over.append(entry)
        self._keep_bodies(entry)
        self.totals.add(entry.record(bodies=False), known=entry.known)
        _log.info(
            "request %d: %s for `%s` ended with %s after %.3f s; %d + %d tokens",
            entry.id,
            entry.path or entry.kind,
            entry.model or "-",
            entry.ended,
            entry.seconds,
            entry.prompt_tokens,
            entry.completion_tokens,
        )

    def _keep_bodies(self, entry: Entry) -> None:
        if entry.request is None:
            return
        self._with_bodies.append(entry)
        self._bodies_bytes += entry.body_bytes
        while self._bodies_bytes > KEPT_BODIES_BYTES or len(self._with_bodies) > KEPT_REQUESTS:
            oldest = self._with_bodies.popleft()
            self._bodies_bytes -= oldest.body_bytes
            oldest.forget_bodies()
