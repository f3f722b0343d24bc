"""One worker process: started, spoken to, and its death noticed. What ran on it fails; nothing else does."""

import asyncio
import itertools
import logging
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from qwenctl.errors import EngineError, LoadFailed, MemoryShort, QwenctlError, WorkerDied
from qwenctl.runner.log import LINE_LIMIT_BYTES, log_of_worker
from qwenctl.runtime import wire
from qwenctl.runtime.engine import (
    Embeddings,
    EmbedRequest,
    EngineOptions,
    LoadedModel,
    Request,
    RerankRequest,
    Scores,
)
from qwenctl.runtime.events import Event, Finished

# -P: a directory that somebody happens to stand in must not lend its modules to a worker.
WORKER_ARGV: Final = (sys.executable, "-P", "-m", "qwenctl.runtime.worker")

_LOAD: Final = None  # the load has no id: it is the first request, and there is one only
_CHUNK_BYTES: Final = 64 * 1024
_EXIT_SECONDS: Final = 2.0  # between the end of stdout and the end of the process
_OUT_OF_MEMORY: Final = "out of memory"
_NOBODY: Final = "(none)"  # a worker that has no model yet
_log: Final = logging.getLogger("qwenctl.runner")

_Inbox = asyncio.Queue[wire.Report | EngineError]


class Worker:
    """A running worker process. Belongs to one event loop; many requests share it, told apart by id.

    Once the process has ended, whatever is under way and whatever comes later raises WorkerDied.
    """

    def __init__(self, child: Process, log: Path | None) -> None:
        assert child.stdin is not None and child.stdout is not None
        self._child = child
        self._stdin, self._stdout = child.stdin, child.stdout
        self._log = log
        self._ids = itertools.count(1)
        self._inboxes: dict[int | None, _Inbox] = {}
        self._name = _NOBODY
        self._telling = asyncio.create_task(self._tell()) if child.stderr else None
        self._epitaph: str | None = None
        self.ended: asyncio.Task[None] = asyncio.create_task(self._listen())
        """Done when the process is gone and its requests have been told."""

    @classmethod
    async def start(cls, argv: Sequence[str] = WORKER_ARGV, log: Path | None = None) -> Self:
        """A new process without a model. Its stderr goes into the runner's log, or is dropped without `log`,
        which is where that lies.

        Raises: EngineError when the program cannot be started.
        """
        try:
            # A session of its own: Ctrl-C on a terminal is for the runner, which drains first.
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE if log else DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise EngineError(f"cannot start a worker: {error}") from error
        return cls(child, log)

    @property
    def pid(self) -> int:
        """The process id, also after the end."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether requests may be sent; false as soon as the end is known."""
        return self._epitaph is None

    async def load(self, name: str, options: EngineOptions) -> LoadedModel:
        """Opens the model, once and before anything else; errors call it `name`.

        Raises: LoadFailed, also when the process ends over it; MemoryShort; what else the worker reports.
        """
        self._name = name
        try:
            report = await self._ask(_LOAD, wire.Load(options))
        except WorkerDied as error:
            failure = MemoryShort if self._epitaph == _OUT_OF_MEMORY else LoadFailed
            raise failure(f"{error.message} while it loaded", hint=self._where_to_look()) from error
        except QwenctlError as error:
            # In the store the file is called by its digest, which says nothing to a person.
            message = error.message.replace(f"`{options.path.name}`", f"`{name}`")
            raise type(error)(message, hint=error.hint) from error
        assert isinstance(report, wire.Loaded)
        return report.model

    async def generate(self, request: Request) -> AsyncGenerator[Event]:
        """The events of `request`; closing the generator cancels it in the worker.

        Raises: what the worker reports (InvalidRequest, PromptTooLong, GenerationFailed, MemoryShort),
        WorkerDied.
        """
        id, over = next(self._ids), False
        inbox = self._open(id)
        try:
            await self._send(wire.Generate(id, request))
            while not over:
                report = _checked(await inbox.get())
                assert isinstance(report, wire.Emitted)
                over = isinstance(report.event, Finished)
                yield report.event
        finally:
            del self._inboxes[id]
            if not over and self.alive:
                self._stdin.write(wire.encode(wire.Cancel(id)))  # no drain: this may run in a cancelled task

    async def count_tokens(self, request: Request) -> int:
        """The tokens of the prompt that `request` would run. Raises: InvalidRequest, WorkerDied."""
        id = next(self._ids)
        report = await self._ask(id, wire.Count(id, request))
        assert isinstance(report, wire.Counted)
        return report.tokens

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """The vectors of texts. Raises: what the worker reports, WorkerDied."""
        id = next(self._ids)
        report = await self._ask(id, wire.Embed(id, request))
        assert isinstance(report, wire.Embedded)
        return report.embeddings

    async def rerank(self, request: RerankRequest) -> Scores:
        """The scores of documents. Raises: what the worker reports, WorkerDied."""
        id = next(self._ids)
        report = await self._ask(id, wire.Rerank(id, request))
        assert isinstance(report, wire.Ranked)
        return report.scores

    async def stats(self) -> wire.Stats:
        """The counters now. Raises: WorkerDied."""
        id = next(self._ids)
        report = await self._ask(id, wire.ReadStats(id))
        assert isinstance(report, wire.Stats)
        return report

    async def close(self, grace_seconds: float = 3.0) -> None:
        """Ends the process: asked first, killed after `grace_seconds`. Idempotent."""
        if self.alive:
            self._stdin.write(wire.encode(wire.Shutdown()))
            self._stdin.close()
            await asyncio.wait({self.ended}, timeout=grace_seconds)
        self.kill()
        await asyncio.wait({self.ended})

    def kill(self) -> None:
        """Ends the process at once, if it still runs."""
        with suppress(ProcessLookupError):
            self._child.kill()

    def _open(self, id: int | None) -> _Inbox:
        if not self.alive:
            raise self._died()
        inbox: _Inbox = asyncio.Queue()
        self._inboxes[id] = inbox
        return inbox

    async def _ask(self, id: int | None, command: wire.Command) -> wire.Report:
        inbox, report = self._open(id), None
        try:
            await self._send(command)
            report = await inbox.get()
            return _checked(report)
        finally:
            del self._inboxes[id]
            if report is None and id is not None and self.alive:
                self._stdin.write(wire.encode(wire.Cancel(id)))  # who asked is gone; see `generate`

    async def _send(self, command: wire.Command) -> None:
        self._stdin.write(wire.encode(command))
        with suppress(BrokenPipeError, ConnectionResetError):  # the death is on its way to the inbox
            await self._stdin.drain()

    async def _listen(self) -> None:
        frames = wire.FrameReader()
        try:
            while chunk := await self._stdout.read(_CHUNK_BYTES):
                for body in frames.feed(chunk):
                    self._deliver(wire.decode_report(body))
        except EngineError as error:
            _log.error("the worker of `%s` speaks nonsense: %s", self._name, error)
            self.kill()
        finally:
            await self._bury()

    async def _tell(self) -> None:
        """Hands on what the process writes to stderr, line by line, until nobody has it open."""
        assert self._child.stderr is not None
        rest = b""
        while chunk := await self._child.stderr.read(_CHUNK_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_LIMIT_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                log_of_worker(self._name, line[:LINE_LIMIT_BYTES])
        log_of_worker(self._name, rest)

    def _deliver(self, report: wire.Report) -> None:
        id = _LOAD if isinstance(report, wire.Loaded) else report.id
        if id in self._inboxes:  # else its asker has gone
            self._inboxes[id].put_nowait(report)

    async def _bury(self) -> None:
        try:
            status = await asyncio.wait_for(self._child.wait(), _EXIT_SECONDS)
        except TimeoutError:  # without its stdout it is of no use, whatever it still does
            self.kill()
            status = await self._child.wait()
        if self._telling is not None:  # its last words are in the log before its end is told
            await asyncio.wait({self._telling}, timeout=_EXIT_SECONDS)
            self._telling.cancel()
        self._epitaph = _describe(status)
        _log.info("the worker of `%s` (process %d) ended: %s", self._name, self.pid, self._epitaph)
        self._stdin.close()
        for inbox in self._inboxes.values():
            inbox.put_nowait(self._died())

    def _died(self) -> WorkerDied:
        look = self._where_to_look()
        hint = f"the next request loads it again{f'; {look}' if look else ''}"
        return WorkerDied(f"the worker of `{self._name}` ended ({self._epitaph})", hint=hint)

    def _where_to_look(self) -> str | None:
        return f"its log is `{self._log}`" if self._log else None


class WorkerStarter:
    """Starts workers, the first one ahead of its need: a start is mostly imports, which can overlap ours."""

    def __init__(self, argv: Sequence[str], log: Path | None) -> None:
        self._argv = argv
        self._log = log
        self._spare: asyncio.Task[Worker] | None = None

    def warm(self) -> None:
        """Begins to start a worker for the next call."""
        self._spare = asyncio.create_task(Worker.start(self._argv, self._log))

    async def __call__(self) -> Worker:
        """A worker without a model. Raises: EngineError when it cannot be started."""
        spare, self._spare = self._spare, None
        if spare is not None:
            worker = await spare
            if worker.alive:
                return worker
        return await Worker.start(self._argv, self._log)

    async def close(self) -> None:
        """Ends a worker that was started and never needed."""
        if self._spare is not None:
            await asyncio.wait({self._spare})
            if not self._spare.exception():
                await self._spare.result().close(grace_seconds=0)  # it has nothing to put in order


def _checked(report: wire.Report | EngineError) -> wire.Report:
    if isinstance(report, EngineError):
        raise report
    if isinstance(report, wire.Failed):
        raise report.error()
    return report


def _describe(status: int) -> str:
    if status == MemoryShort.exit_code:  # see `runtime.worker`
        return _OUT_OF_MEMORY
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-status}"
