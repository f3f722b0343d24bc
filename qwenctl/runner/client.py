"""What a command uses to reach a runner, this user's own or one elsewhere, and the start of the service."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode

import msgspec

from qwenctl import __version__
from qwenctl.errors import Conflict, QwenctlError, RunnerUnavailable
from qwenctl.runner.listen import answers
from qwenctl.runner.messages import (
    LOG_NAME,
    PREFIX,
    SOCKET_NAME,
    ChatCall,
    ChatLine,
    ConfigureAnswer,
    ConfigureCall,
    LoadCall,
    LoadedStatus,
    LoadOptions,
    ModelReport,
    RequestRecord,
    RunnerStatus,
    ShutdownCall,
    StopAnswer,
    StopCall,
)
from qwenctl.runner.transport import Transport, transport_to
from qwenctl.runtime.engine import ChatRequest
from qwenctl.runtime.events import Event, Finished
from qwenctl.runtime.wire import Failed
from qwenctl.settings import Settings
from qwenctl.units import render_duration

SERVICE_ARGV: Final = (sys.executable, "-P", "-m", "qwenctl", "runner-service")
"""The program that lives as the runner; the settings it must share follow as options (`service_options`)."""

START_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01
_QUICK_SECONDS: Final = 10.0  # what needs no model is answered at once
_LOG_TAIL_BYTES: Final = 2000
_ANSWER_LIMIT_BYTES: Final = 256 * 1024 * 1024  # a runner elsewhere may be anybody
_LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024

T = TypeVar("T")
_lines: Final[msgspec.json.Decoder[ChatLine]] = msgspec.json.Decoder(ChatLine)


class RunnerClient:
    """The runner as its user sees it. Every call is one connection; any thread may call.

    Errors of the runner are raised as the classes they were there. All calls raise RunnerUnavailable when
    nobody answers, or the answer breaks off; of a runner elsewhere it is Unreachable, and Unauthorized when
    it does not take the key.
    """

    def __init__(self, settings: Settings, transport: Transport | None = None) -> None:
        self._path = settings.runtime / SOCKET_NAME
        self._transport = transport or transport_to(settings)

    @classmethod
    def running(cls, settings: Settings) -> Self | None:
        """The runner that runs, of whatever version; None when there is none."""
        return cls(settings) if answers(settings.runtime / SOCKET_NAME) else None

    @classmethod
    def connect(
        cls, settings: Settings, argv: Sequence[str] = SERVICE_ARGV, wait_seconds: float = START_SECONDS
    ) -> Self:
        """A runner of this version and store, started if need be; one that is not is asked to leave.

        Raises: Conflict when the other one works, or is a `qwenctl serve`. RunnerUnavailable with the end
        of its log when it does not start.
        """
        deadline = time.monotonic() + wait_seconds
        client = cls.running(settings)
        if client is not None and not client._replaced(settings, deadline):
            return client
        child = _spawn([*argv, *service_options(settings)], settings.state / LOG_NAME)
        while (client := cls.running(settings)) is None:
            # Status 0 is a runner that found another one ahead of it.
            if child.poll() or time.monotonic() > deadline:
                status = child.poll()
                child.kill()
                child.wait()
                raise _start_failure(status, settings.state / LOG_NAME, wait_seconds)
            time.sleep(_POLL_SECONDS)
        child.returncode = 0  # it outlives us: no warning that we leave a child behind
        return client

    def status(self) -> RunnerStatus:
        """Who runs and what it does."""
        return self._ask("GET", "status", RunnerStatus)

    def loaded(self) -> list[LoadedStatus]:
        """The models in memory, those at work first."""
        return self._ask("GET", "loaded", list[LoadedStatus])

    def load(
        self, model: str, options: LoadOptions | None = None, keep_alive_seconds: float | None = None
    ) -> LoadedStatus:
        """The model's status once it is loaded, with these options. `keep_alive_seconds` as in `chat`.

        Raises: ReferenceUnknown; Conflict when it works with other options; LoadFailed; DoesNotFit.
        """
        keep_alive = _sendable(keep_alive_seconds)
        call = LoadCall(model=model, options=options or LoadOptions(), keep_alive=keep_alive)
        return self._ask("POST", "load", LoadedStatus, call, timeout_seconds=None)

    def stop(self, model: str | None = None) -> list[str]:
        """Unloads a model, or all; the names of those that were loaded. Raises: ReferenceUnknown."""
        return self._ask("POST", "stop", StopAnswer, StopCall(model)).stopped

    def requests(
        self, model: str | None = None, *, limit: int = 1000, after: int = 0, bodies: bool = False
    ) -> list[RequestRecord]:
        """The last requests, by their ends, then those under way; see `RequestsQuery`.

        Raises: ReferenceUnknown.
        """
        query = {"limit": str(limit), "after": str(after), "bodies": "true" if bodies else "false"}
        path = f"requests?{urlencode(query | ({'model': model} if model else {}))}"
        return self._ask("GET", path, list[RequestRecord])

    def shutdown(self, *, only_if_idle: bool = False) -> RunnerStatus:
        """Asks it to leave once its requests are done. Raises: Conflict when `only_if_idle` and it works."""
        return self._ask("POST", "shutdown", RunnerStatus, ShutdownCall(only_if_idle))

    def models(self) -> list[ModelReport]:
        """The models that can be asked for there."""
        return self._ask("GET", "models", list[ModelReport])

    def model(self, name: str) -> ModelReport:
        """The model of this name, or id. Raises: InvalidReference, ReferenceUnknown."""
        return self._ask("GET", f"models?{urlencode({'model': name})}", list[ModelReport])[0]

    def configure(self, call: ConfigureCall) -> ConfigureAnswer:
        """What is set for a model there, after the `call`. Raises: ReferenceUnknown, UsageError."""
        return self._ask("POST", "configure", ConfigureAnswer, call)

    def chat(
        self, model: str, request: ChatRequest, keep_alive_seconds: float | None = None
    ) -> Iterator[Event]:
        """The events of `request`, the model loaded first if need be; closing the iterator cancels.

        `keep_alive_seconds` is how long the model stays after this, infinity for ever; None leaves it.
        Raises: ReferenceUnknown, LoadFailed, DoesNotFit, InvalidRequest, PromptTooLong, GenerationFailed,
        WorkerDied.
        """
        call = ChatCall(model=model, request=request, keep_alive=_sendable(keep_alive_seconds))
        with self._exchange("POST", "chat", call, timeout_seconds=None) as response:
            while line := response.readline(_LINE_LIMIT_BYTES):
                item = _lines.decode(line)
                if isinstance(item, Failed):
                    raise item.error()
                yield item
                if isinstance(item, Finished):
                    return
        raise self._transport.silent(HTTPException("it ended in the middle of an answer"))

    def _replaced(self, settings: Settings, deadline: float) -> bool:
        """Whether this runner was of no use and has left."""
        try:
            there = self.status()
        except RunnerUnavailable:
            if answers(self._path):
                raise
            return True  # it was just leaving by itself
        if there.version == __version__ and there.store == str(settings.store):
            return False
        other = f"version {there.version} with the store `{there.store}`"
        if there.foreground:
            raise Conflict(f"a `qwenctl serve` of {other} runs", hint="stop it first")
        try:
            self.shutdown(only_if_idle=True)
        except Conflict as error:
            raise Conflict(f"a runner of {other} works", hint="wait until it is done") from error
        while answers(self._path):
            if time.monotonic() > deadline:
                raise Conflict(f"a runner of {other} does not leave", hint=f"end process {there.pid}")
            time.sleep(_POLL_SECONDS)
        return True

    def _ask(
        self,
        method: str,
        path: str,
        wanted: type[T],
        call: msgspec.Struct | None = None,
        timeout_seconds: float | None = _QUICK_SECONDS,
    ) -> T:
        with self._exchange(method, path, call, timeout_seconds) as response:
            return msgspec.json.decode(response.read(_ANSWER_LIMIT_BYTES), type=wanted)

    @contextmanager
    def _exchange(
        self, method: str, path: str, call: msgspec.Struct | None, timeout_seconds: float | None
    ) -> Iterator[HTTPResponse]:
        way = self._transport
        body = None if call is None else msgspec.json.encode(call)
        try:
            with closing(way.open(timeout_seconds)) as connection:
                connection.request(method, f"{way.prefix}{PREFIX}/{path}", body, dict(way.headers))
                with connection.getresponse() as response:
                    if response.status >= 300:  # a redirect too: the key must not go elsewhere
                        raise way.refused(_refusal(response))
                    yield response
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            raise way.silent(error) from error


def _refusal(response: HTTPResponse) -> QwenctlError:
    """The error that the runner tells. Raises: HTTPException for the words of another kind of server."""
    try:
        return msgspec.json.decode(response.read(_LINE_LIMIT_BYTES), type=Failed).error()
    except msgspec.DecodeError:
        raise HTTPException(f"this is HTTP {response.status} of no qwenctl runner") from None


def service_options(settings: Settings) -> list[str]:
    """The options that make a spawned service share these settings."""
    shared = {
        "store": str(settings.store),
        "runtime": str(settings.runtime),
        "state": str(settings.state),
        "registry": settings.registry,
        "keep-alive": _spelled(settings.keep_alive_seconds),
        "max-models": str(settings.max_models),
        "max-queue": str(settings.max_queue),
        "request-timeout": _spelled(settings.request_timeout_seconds),
    }
    if settings.ggml_backends:
        shared["ggml-backends"] = ",".join(map(str, settings.ggml_backends))
    return [f"--{name}={value}" for name, value in shared.items()]


def _spelled(seconds: float) -> str:
    return "forever" if seconds == float("inf") else f"{seconds:g}s"


def _sendable(seconds: float | None) -> float | None:
    return -1 if seconds == float("inf") else seconds  # JSON has no infinity


def _spawn(argv: Sequence[str], log: Path) -> subprocess.Popen[Any]:
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("ab") as sink:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,  # a Ctrl-C here is not for it
                cwd="/",  # and it must not keep a directory busy
            )
    except OSError as error:
        raise RunnerUnavailable(f"the runner cannot be started: {error}") from error


def _start_failure(status: int | None, log: Path, wait_seconds: float) -> RunnerUnavailable:
    what = f"ended with status {status}" if status else f"is not ready after {render_duration(wait_seconds)}"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
        tail = file.read().decode("utf-8", "replace").strip().splitlines()[-5:]
    told = "\n  ".join(["", *tail]) if tail else ""
    return RunnerUnavailable(f"the runner {what}{told}", hint=f"its log is `{log}`")
