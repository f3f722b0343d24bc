"""What `launch` does to the machine: a server that is there or is started, files, the program to its end."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Final

import msgspec

from qwenctl.cli.api_key import KEY_VARIABLE, key_of
from qwenctl.cli.output import reason_of
from qwenctl.errors import AccessDenied, Conflict, RunnerUnavailable, Unauthorized, error_class
from qwenctl.flows.launch import DUMMY_KEY, Endpoint

if TYPE_CHECKING:
    from qwenctl.settings import Settings

_SERVER_ARGV: Final = (sys.executable, "-P", "-m", "qwenctl", "launch-service", "--json")
_LEAVE_SECONDS: Final = 20.0  # longer than it lets requests finish
_PASSED_ON: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SIGNAL_STATUS: Final = 128  # POSIX, Shell Command Language 2.8.2: a command that a signal ended


class _Line(msgspec.Struct, frozen=True):
    """The server's first line: it is ready, or the envelope of its failure."""

    url: str | None = None
    errors: list[dict[str, str]] = []


def served_at(settings: "Settings") -> str | None:
    """Where a running server of this store listens on TCP; None when there is none.

    Raises: Conflict for one of another store.
    """
    from qwenctl.runner.client import RunnerClient

    runner = RunnerClient.running(settings)
    status = runner.status() if runner else None
    if status is None or status.url is None:
        return None
    if status.store != str(settings.store):
        raise Conflict(f"`qwenctl serve` runs with the store `{status.store}`", hint="stop it first")
    return status.url


@contextmanager
def endpoint_of(model: str, settings: "Settings") -> Iterator[Endpoint]:
    """Where `model` is served while the block runs: by the server that runs, else by one of its own.

    Raises: Unauthorized when it wants a key that we have not; what starting a server raises.
    """
    key = key_of(settings, os.environ)
    url = served_at(settings)
    if url is not None:
        _check_key(url, key, settings)
        yield Endpoint(url, model, key or DUMMY_KEY)
        return
    with _server() as own:
        yield Endpoint(own, model, key or DUMMY_KEY)


def _check_key(url: str, key: str | None, settings: "Settings") -> None:
    """The program would tell it badly."""
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.transport import UrlTransport

    try:
        RunnerClient(settings, UrlTransport(url, key)).status()
    except Unauthorized as error:
        raise Unauthorized(
            f"the server at `{url}` {'has another key' if key else 'wants its key'}",
            hint=f"set ${KEY_VARIABLE} to the key that it was started with",
        ) from error


@contextmanager
def _server() -> Iterator[str]:
    """The address of a server of our own. It ends with the block, and with this process in any case."""
    with subprocess.Popen(
        _SERVER_ARGV,
        stdin=subprocess.PIPE,  # it leaves when nobody holds the other end any more
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # errors are in its first line, all else in the log
        start_new_session=True,  # a Ctrl-C is for the program
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            yield _address(child.stdout)
        finally:
            child.stdin.close()
            try:
                child.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _address(stdout: IO[bytes]) -> str:
    """What the server says first. Raises: the error that it failed with."""
    try:
        line = msgspec.json.decode(stdout.readline(), type=_Line)
    except msgspec.DecodeError as error:
        raise RunnerUnavailable("the server ended before it was ready", hint="`qwenctl logs`") from error
    for failed in line.errors:
        raise error_class(failed["code"])(failed["message"], hint=failed.get("hint"))
    if line.url is None:
        raise RunnerUnavailable("the server has no address", hint="`qwenctl logs`")
    return line.url


def write_files(directory: Path, files: Mapping[str, str]) -> str:
    """The directory, for the user alone, with these files in it. Raises: AccessDenied."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            draft = directory / f".{name}.draft"
            draft.unlink(missing_ok=True)
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it may hold a key
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(content)
            draft.replace(directory / name)
    except OSError as error:
        raise AccessDenied(f"`{directory}` cannot be written: {reason_of(error)}") from error
    return str(directory)


def run_program(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit status of a program that has this terminal; signals to us are passed on to it.

    Raises: AccessDenied when it cannot be started.
    """
    early: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty():
            return  # the terminal has sent it to the program, too
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        child = subprocess.Popen(argv, env=environment)
        for number in early:
            child.send_signal(number)
        status = child.wait()
    except OSError as error:
        raise AccessDenied(f"`{argv[0]}` cannot be started: {reason_of(error)}") from error
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
    return _SIGNAL_STATUS - status if status < 0 else status
