"""One life of the runner, from the lock to the last worker's end.

    lock → sockets → first worker (spare) → server … requests … → leave → drain → workers → unlink → unlock

It leaves when it is told to (SIGTERM, SIGINT, `shutdown`), and, where it was started on demand, when for a
while nobody asked for anything and no model is loaded.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from qwenctl import __version__
from qwenctl.errors import Conflict
from qwenctl.runner.listen import (
    LOOPBACK,
    answers,
    bind_loopback,
    bind_unix,
    ensure_private_directory,
    sole_runner,
)
from qwenctl.runner.messages import LOG_NAME, SOCKET_NAME, RunnerStatus
from qwenctl.runner.models import LoadPlanner, ModelSource
from qwenctl.runner.pool import Pool
from qwenctl.runner.supervisor import WORKER_ARGV, WorkerStarter
from qwenctl.settings import Settings

if TYPE_CHECKING:
    from qwenctl.runner.server import Activity, Server

_LOCK_NAME: Final = "runner.lock"
_LOCK_MARGIN_SECONDS: Final = 10  # beyond the drain of the runner that leaves
_UNREAD_SECONDS: Final = 3  # after the drain, for clients to read that their answer was broken off
_log: Final = logging.getLogger("qwenctl.runner")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """How one runner lives. `port` None is no TCP; 0 is any free port.

    On demand (not `foreground`) it leaves after `idle_seconds` without a request or a model.
    """

    foreground: bool = False
    port: int | None = None
    model_limit: int = 3
    idle_seconds: float = 300.0
    drain_seconds: int = 10
    worker_argv: Sequence[str] = WORKER_ARGV
    version: str = __version__


def run(
    settings: Settings,
    source: ModelSource,
    options: ServiceOptions,
    on_ready: Callable[[RunnerStatus], None] = lambda _: None,
    planner: LoadPlanner | None = None,
) -> None:
    """Lives one life of the runner and returns at its end. In the main thread it obeys SIGTERM and SIGINT.

    `planner` decides how models are loaded; without one nothing looks at memory. `on_ready` is called once,
    when requests are answered. Returns at once when it was started on demand and another runner is there.

    Raises: Conflict when the port is taken, or `foreground` and another runner works or is `foreground`
    too. AccessDenied, InvalidSettings for directories that cannot be used.
    """
    ensure_private_directory(settings.runtime)
    settings.state.mkdir(parents=True, exist_ok=True)
    path = settings.runtime / SOCKET_NAME
    if options.foreground:
        _send_away(settings)
    wait_seconds = options.drain_seconds + _LOCK_MARGIN_SECONDS
    give_up = (lambda: False) if options.foreground else (lambda: answers(path))
    with sole_runner(settings.runtime / _LOCK_NAME, wait_seconds, give_up) as alone, ExitStack() as sockets:
        if not alone and options.foreground:
            raise Conflict(
                "another runner holds the lock and does not leave", hint="`qwenctl stop --all`, then again"
            )
        if not alone:
            return
        listeners = [] if options.port is None else [sockets.enter_context(bind_loopback(options.port))]
        listeners.append(sockets.enter_context(bind_unix(path)))
        sockets.callback(path.unlink, missing_ok=True)
        asyncio.run(_Service(settings, source, options, listeners, planner).live(on_ready))


def _send_away(settings: Settings) -> None:
    from qwenctl.runner.client import RunnerClient  # a runner that is started on demand never asks

    client = RunnerClient.running(settings)
    if client is None:
        return
    there = client.status()
    if there.foreground:
        raise Conflict(
            f"`qwenctl serve` already runs as process {there.pid}", hint=f"it answers at {there.url}"
        )
    client.shutdown(only_if_idle=True)


class _Service:
    """The running parts. Its `status` and `leave` are what the control door may use."""

    def __init__(
        self,
        settings: Settings,
        source: ModelSource,
        options: ServiceOptions,
        listeners: Sequence[socket.socket],
        planner: LoadPlanner | None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._listeners = listeners
        self._url = _url_of(listeners)
        self._starter = WorkerStarter(options.worker_argv, settings.state / LOG_NAME)
        keep_alive = settings.keep_alive_seconds
        self._pool = Pool(
            source,
            self._starter,
            keep_alive_seconds=keep_alive,
            limit=options.model_limit,
            planner=planner,
        )
        self._born_seconds = time.monotonic()
        self._server: Server
        self._stopping: asyncio.Task[None]

    async def live(self, on_ready: Callable[[RunnerStatus], None]) -> None:
        self._starter.warm()
        await asyncio.sleep(0)  # the worker's process is started before our slow imports below
        from qwenctl.runner import server

        self._server, activity = server.build(self._pool, self, self._options.drain_seconds + _UNREAD_SECONDS)
        self._obey_signals()
        serving = asyncio.create_task(server.serve(self._server, self._listeners))
        watching = asyncio.create_task(self._leave_when_idle(activity))
        _log.info("runner %s is ready: process %d", self._options.version, os.getpid())
        on_ready(self.status())
        try:
            await serving
        finally:
            watching.cancel()
            await self._pool.close()
            await self._starter.close()
            _log.info("runner ended")

    def status(self) -> RunnerStatus:
        return RunnerStatus(
            version=self._options.version,
            pid=os.getpid(),
            store=str(self._settings.store),
            foreground=self._options.foreground,
            url=self._url,
            uptime_seconds=time.monotonic() - self._born_seconds,
            requests=self._pool.working,
            models=len(self._pool),
        )

    def leave(self, *, only_if_idle: bool = False) -> None:
        if only_if_idle and self._pool.working:
            raise Conflict(
                f"the runner works on {self._pool.working} requests",
                hint="try again when they are done, or `qwenctl stop --all`",
            )
        self._begin_to_leave()

    def _obey_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread gets signals
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.leave)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def _interrupt(self) -> None:
        """The first Ctrl-C drains; the second stops the models, which ends the answers with an error."""
        if self._server.should_exit:
            self._stop_models()
        self._begin_to_leave()

    def _begin_to_leave(self) -> None:
        if not self._server.should_exit:
            self._server.leave()
            asyncio.get_running_loop().call_later(self._options.drain_seconds, self._stop_models)

    def _stop_models(self) -> None:
        self._stopping = asyncio.create_task(self._pool.close())

    async def _leave_when_idle(self, activity: "Activity") -> None:
        if self._options.foreground:
            return
        patience, loop = self._options.idle_seconds, asyncio.get_running_loop()
        idle_since = loop.time()
        while loop.time() - idle_since < patience:
            await asyncio.sleep(min(1.0, patience / 5))
            busy = activity.requests or len(self._pool)
            idle_since = loop.time() if busy else max(idle_since, activity.last_seconds)
        _log.info("idle for %.0f seconds", patience)
        self.leave()


def _url_of(listeners: Sequence[socket.socket]) -> str | None:
    ports = [listener.getsockname()[1] for listener in listeners if listener.family == socket.AF_INET]
    return f"http://{LOOPBACK}:{ports[0]}" if ports else None
