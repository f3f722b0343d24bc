"""The process around one loaded model: `python -m qwenctl.runtime.worker`, spoken to in `wire` frames.

Four threads beside the engine's own: this one reads commands, so that a cancel is never stuck behind work;
one prepares requests in order (load, render, tokenize); one computes texts that become vectors or scores,
one request after the other; one writes reports, so that a slow reader never stops the decoding. stderr is
the log. The end of stdin ends the process: its parent is gone.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, NoReturn

from qwenctl.errors import Conflict, EngineError, GenerationFailed, InvalidRequest, MemoryShort, QwenctlError
from qwenctl.runtime import wire
from qwenctl.runtime.engine import Cancel, Embeddings, EmbedRequest, Engine, EngineOptions, Wanted
from qwenctl.runtime.events import Event, Finished
from qwenctl.runtime.host import resident_bytes

OpenEngine = Callable[[EngineOptions], Engine]

_READ_BYTES: Final = 1 << 16
_NUMBER_BYTES: Final = 4
_log: Final = logging.getLogger(__name__)


class Worker:
    """Carries out commands and puts reports into `outbox`; `handle` is called by one thread."""

    def __init__(self, open_engine: OpenEngine, outbox: "SimpleQueue[wire.Report | None]") -> None:
        self._open_engine = open_engine
        self._outbox = outbox
        self._to_prepare: SimpleQueue[wire.Command] = SimpleQueue()
        self._to_compute: SimpleQueue[wire.Command] = SimpleQueue()
        self._engine: Engine | None = None
        # Guarded by the lock: what runs, and what was cancelled before it did.
        self._lock = threading.Lock()
        self._pending: set[int] = set()
        self._cancels: dict[int, Cancel] = {}
        self._cancelled: set[int] = set()
        for name, queue in (("prepare", self._to_prepare), ("texts", self._to_compute)):
            threading.Thread(target=self._serve, args=(queue,), name=name, daemon=True).start()

    def handle(self, command: wire.Command) -> None:
        """Carries out or hands on one command; never waits for the engine."""
        match command:
            case wire.Cancel(id):
                self._cancel(id)
            case wire.ReadStats(id):
                self._report_stats(id)
            case wire.Generate(id) | wire.Embed(id) | wire.Rerank(id):
                with self._lock:
                    self._pending.add(id)
                self._to_prepare.put(command)
            case _:
                self._to_prepare.put(command)

    def close(self) -> None:
        """Closes the engine; what still runs fails."""
        if self._engine is not None:
            self._engine.close()

    def _cancel(self, id: int) -> None:
        with self._lock:
            cancel = self._cancels.get(id)
            if cancel is None and id in self._pending:
                self._cancelled.add(id)
        if cancel is not None:
            cancel()

    def _report_stats(self, id: int) -> None:
        if self._engine is None:
            self._outbox.put(wire.Failed.of(id, _not_loaded()))
            return
        self._outbox.put(wire.Stats(id, self._engine.stats(), resident_bytes()))

    # --- the threads that prepare, and that compute texts ------------------------------------------

    def _serve(self, queue: "SimpleQueue[wire.Command]") -> None:
        carry_out = self._carry_out if queue is self._to_prepare else self._compute
        while True:
            command = queue.get()
            id = getattr(command, "id", None)
            try:
                carry_out(command)
            except QwenctlError as error:
                self._fail(id, error)
            except Exception as error:  # noqa: BLE001 - a server loop outlives its bugs
                _log.exception("a command failed")
                self._fail(id, EngineError(f"the worker failed inside: {error!r}"))

    def _carry_out(self, command: wire.Command) -> None:
        if isinstance(command, wire.Load):
            if self._engine is not None:
                raise Conflict("this worker has a model already")
            self._engine = self._open_engine(command.options)
            self._outbox.put(wire.Loaded(self._engine.model))
        elif self._engine is None:
            raise _not_loaded()
        elif isinstance(command, wire.Count):
            self._outbox.put(wire.Counted(command.id, self._engine.count_tokens(command.request)))
        elif isinstance(command, wire.Embed | wire.Rerank):
            self._to_compute.put(command)  # which takes long, and must keep nobody waiting
        elif isinstance(command, wire.Generate):
            self._start(self._engine, command)

    def _compute(self, command: wire.Command) -> None:
        assert self._engine is not None and isinstance(command, wire.Embed | wire.Rerank)
        wanted = partial(self._wanted, command.id)
        if not wanted():
            raise GenerationFailed("who asked for the texts is gone")
        report: wire.Report
        if isinstance(command, wire.Embed):
            report = wire.Embedded(command.id, self._embed(self._engine, command.request, wanted))
        else:
            report = wire.Ranked(command.id, self._engine.rerank(command.request, wanted))
        self._forget(command.id)
        self._outbox.put(report)

    def _embed(self, engine: Engine, request: EmbedRequest, wanted: Wanted) -> Embeddings:
        dimensions = engine.model.dimensions
        most = wire.MAX_FRAME_BYTES // 2 // (_NUMBER_BYTES * max(1, dimensions))
        if len(request.texts) > most:
            raise InvalidRequest(
                f"{len(request.texts)} texts are too many for one answer",
                hint=f"send at most {most} at a time",
            )
        return engine.embed(request, wanted)

    def _wanted(self, id: int) -> bool:
        return id not in self._cancelled

    def _start(self, engine: Engine, command: wire.Generate) -> None:
        id = command.id
        cancel = engine.start(command.request, partial(self._observe, id))
        with self._lock:
            if id not in self._pending:  # it was so short that it is over
                return
            self._cancels[id] = cancel
            cancelled = id in self._cancelled
        if cancelled:
            cancel()

    def _observe(self, id: int, item: Event | QwenctlError) -> None:
        """On the engine's thread."""
        if isinstance(item, QwenctlError):
            self._fail(id, item)
            return
        if isinstance(item, Finished):
            self._forget(id)
        self._outbox.put(wire.Emitted(id, item))

    def _fail(self, id: int | None, error: QwenctlError) -> None:
        if id is not None:
            self._forget(id)
        self._outbox.put(wire.Failed.of(id, error))

    def _forget(self, id: int) -> None:
        with self._lock:
            self._pending.discard(id)
            self._cancelled.discard(id)
            self._cancels.pop(id, None)


def write_reports(outbox: "SimpleQueue[wire.Report | None]", descriptor: int) -> None:
    """Writes reports as frames until it gets None; what has gathered meanwhile goes out in one write.

    Raises: OSError when the reader is gone.
    """
    while (report := outbox.get()) is not None:
        frames = bytearray(wire.encode(report))
        with suppress(Empty):
            while len(frames) < _READ_BYTES:
                following = outbox.get_nowait()
                if following is None:
                    outbox.put(None)
                    break
                frames += wire.encode(following)
        view = memoryview(frames)
        while view:
            view = view[os.write(descriptor, view) :]


def read_commands(descriptor: int, worker: Worker) -> bool:
    """Hands commands to `worker`; returns whether it was told to end, rather than left alone.

    Raises: EngineError when the bytes are no frames of ours.
    """
    frames = wire.FrameReader()
    while chunk := os.read(descriptor, _READ_BYTES):
        for body in frames.feed(chunk):
            command = wire.decode_command(body)
            if isinstance(command, wire.Shutdown):
                return True
            worker.handle(command)
    return False


def main(open_engine: OpenEngine) -> NoReturn:
    """Runs a worker on this process's stdin and stdout until it is told to end or left alone."""
    # Ctrl-C goes to the whole terminal group; ending is the runner's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    source, target = _take_over_stdio()
    outbox: SimpleQueue[wire.Report | None] = SimpleQueue()
    writer = threading.Thread(target=_write_or_leave, args=(outbox, target), name="write", daemon=True)
    writer.start()
    worker = Worker(open_engine, outbox)
    status = 0
    try:
        in_order = read_commands(source, worker)
        if in_order:
            worker.close()
            outbox.put(None)
            writer.join()
    except QwenctlError as error:
        _log.error("%s", error.message)
        status = error.exit_code
    # Not an orderly interpreter exit: a thread may be deep inside llama.cpp, and the system frees faster.
    os._exit(status)


def _take_over_stdio() -> tuple[int, int]:
    """Private copies of stdin and stdout. From now on descriptor 1 is stderr, whatever prints there, and
    descriptor 0 is empty: nothing else can read or break the frames.
    """
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return source, target


def _write_or_leave(outbox: "SimpleQueue[wire.Report | None]", descriptor: int) -> None:
    try:
        write_reports(outbox, descriptor)
    except OSError:
        os._exit(0)


def _not_loaded() -> EngineError:
    return EngineError("this worker has no model yet", hint="send `load` first")


def _open_llama(options: EngineOptions) -> Engine:
    from qwenctl.runtime.bindings import library
    from qwenctl.runtime.local import open_engine

    opened = library()
    opened.log.echo = logging.getLogger("llama.cpp").info
    opened.on_abort(lambda reason: _aborted(reason, short=opened.log.shortage() is not None))
    return open_engine(options)


def _aborted(reason: str, *, short: bool) -> None:
    """CUDA's own way to say that a card is full is the end of the process: then its status says why."""
    _log.error("ggml gave up: %s", reason)
    if short:
        os._exit(MemoryShort.exit_code)


if __name__ == "__main__":
    main(_open_llama)
