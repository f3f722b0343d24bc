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
from qwenctl.errors import Conflict, UsageError
from qwenctl.runner.ledger import Ledger
from qwenctl.runner.listen import (
    Address,
    allow_connections,
    answers,
    authority_of,
    bind_tcp,
    bind_unix,
    ensure_private_directory,
    resolve_address,
    sole_runner,
    url_of,
)
from qwenctl.runner.log import logging_to
from qwenctl.runner.messages import LOG_NAME, SOCKET_NAME, RunnerStatus
from qwenctl.runner.models import LoadPlanner, ModelSource
from qwenctl.runner.pool import Limits, Pool
from qwenctl.runner.supervisor import WORKER_ARGV, WorkerStarter
from qwenctl.settings import Settings

if TYPE_CHECKING:
    from qwenctl.api.library import Library
    from qwenctl.runner.server import Activity, Server

_LOCK_NAME: Final = "runner.lock"
_LOCK_MARGIN_SECONDS: Final = 10  # beyond the drain of the runner that leaves
_FURTHER_FILES: Final = 256  # beside the connections: pipes to workers, files of the store
_UNREAD_SECONDS: Final = 3  # after the drain, for clients to read that their answer was broken off
_log: Final = logging.getLogger("qwenctl.runner")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """How one runner lives. `port` None is no TCP; 0 is any free port; the address is the settings' `host`.

    Clients over TCP need the `api_key`, if there is one. On demand (not `foreground`) it leaves after
    `idle_seconds` without a request or a model. Requests and answers are kept for `requests` only where it
    `records_bodies`, or a model is configured so.
    """

    foreground: bool = False
    port: int | None = None
    api_key: str | None = None
    records_bodies: bool = False
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
    open_library: "Callable[[], Library] | None" = None,
) -> None:
    """Lives one life of the runner and returns at its end. In the main thread it obeys SIGTERM and SIGINT.

    `planner` decides how models are loaded; without one nothing looks at memory. `open_library` gives what
    doors may do to the store; without it they do nothing. `on_ready` is called once, when requests are
    answered. Returns at once when it was started on demand and another runner is there.

    Raises: Conflict when the port is taken, or `foreground` and another runner works or is `foreground`
    too. UsageError for an address beyond this machine without a key, or that is not one of its own.
    AccessDenied, InvalidSettings for directories that cannot be used.
    """
    address = _checked_address(settings.host, options)
    ensure_private_directory(settings.runtime)
    settings.state.mkdir(parents=True, exist_ok=True)
    path = settings.runtime / SOCKET_NAME
    if options.foreground:
        _send_away(settings)
    wait_seconds = options.drain_seconds + _LOCK_MARGIN_SECONDS
    give_up = (lambda: False) if options.foreground else (lambda: answers(path))
    with sole_runner(settings.runtime / _LOCK_NAME, wait_seconds, give_up) as alone, ExitStack() as stack:
        if not alone and options.foreground:
            raise Conflict(
                "another runner holds the lock and does not leave", hint="`qwenctl stop --all`, then again"
            )
        if not alone:
            return
        listeners = [] if address is None else [stack.enter_context(bind_tcp(address))]
        listeners.append(stack.enter_context(bind_unix(path)))
        stack.callback(path.unlink, missing_ok=True)
        stack.enter_context(logging_to(settings.state / LOG_NAME))
        asyncio.run(_Service(settings, source, options, listeners, planner, open_library).live(on_ready))


def _checked_address(host: str, options: ServiceOptions) -> Address | None:
    """Where to listen, None for no TCP. Beyond loopback a key is what keeps strangers out."""
    if options.port is None:
        return None
    address = resolve_address(host, options.port)
    if not address.is_loopback and options.api_key is None:
        raise UsageError(
            f"`{host}` can be reached from other machines, and there is no key",
            hint="set $QWENCTL_API_KEY, or give `--api-key-file FILE`",
        )
    return address


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
        open_library: "Callable[[], Library] | None",
    ) -> None:
        self._settings = settings
        self._open_library = open_library
        self._options = options
        self._listeners = listeners
        self._tcp = next((item for item in listeners if item.family != socket.AF_UNIX), None)
        self._starter = WorkerStarter(options.worker_argv, settings.state / LOG_NAME)
        keep_alive = settings.keep_alive_seconds
        self._pool = Pool(
            source,
            self._starter,
            keep_alive_seconds=keep_alive,
            limits=Limits(
                models=settings.max_models,
                waiting=settings.max_queue,
                request_seconds=settings.request_timeout_seconds,
            ),
            planner=planner,
            ledger=Ledger(records_bodies=options.records_bodies),
        )
        self._born_seconds = time.monotonic()
        self._server: Server
        self._stopping: asyncio.Task[None]

    async def live(self, on_ready: Callable[[RunnerStatus], None]) -> None:
        self._starter.warm()
        await asyncio.sleep(0)  # the worker's process is started before our slow imports below
        from qwenctl.api.guard import Admission
        from qwenctl.runner import server

        admission = Admission(
            api_key=self._options.api_key,
            any_host=self._tcp is not None
            and not Address(self._tcp.family, self._tcp.getsockname()).is_loopback,
            origins=frozenset(self._settings.cors),
        )
        allow_connections(server.CONNECTION_LIMIT + _FURTHER_FILES)
        patience_seconds = self._options.drain_seconds + _UNREAD_SECONDS
        library = self._open_library() if self._open_library else None
        self._server, activity = server.build(self._pool, self, library, patience_seconds, admission)
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
            url=url_of(self._tcp) if self._tcp else None,
            address=authority_of(self._tcp) if self._tcp else None,
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
