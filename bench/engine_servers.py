"""The servers of the engine benchmark: `qwenctl serve` and llama.cpp's `llama-server`, on one model file."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import psutil

from bench.measured import RunFailed

START_SECONDS = 120
MODEL = "measured"
_QWENCTL = [sys.executable, "-m", "qwenctl"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How both servers open a model."""

    path: Path
    threads: int
    slots: int
    context_tokens: int
    """Of each slot."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that has the model loaded and answers on a loopback port."""

    port: int
    pid: int

    def resident_bytes(self) -> int:
        """The memory of the process and its children that is in RAM."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family)


def environ_in(directory: Path) -> dict[str, str]:
    """The environment of a qwenctl that has all of its files in `directory`."""
    places = {
        "QWENCTL_STORE": directory / "store",
        "QWENCTL_RUNTIME": directory / "run",
        "QWENCTL_STATE": directory / "state",
        "QWENCTL_CONFIG": directory / "config.yaml",
    }
    (directory / "config.yaml").touch()
    return dict(os.environ) | {name: str(path) for name, path in places.items()}


def end_runner(environ: Mapping[str, str]) -> None:
    """Ends the runner that a command has started on demand. Raises: CalledProcessError, RunFailed."""
    command = [*_QWENCTL, "status", "--json"]
    answer = subprocess.run(command, env=dict(environ), capture_output=True, check=True).stdout
    runner = json.loads(answer)["data"]["runner"]
    if runner is not None:
        process = psutil.Process(runner["pid"])
        process.terminate()
        process.wait(START_SECONDS)


def put_into_store(path: Path, environ: Mapping[str, str]) -> None:
    """The model file as `MODEL` in the store. Raises: CalledProcessError."""
    command = [*_QWENCTL, "package", MODEL, "--gguf", str(path)]
    subprocess.run(
        command, env=dict(environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )


@contextmanager
def qwenctl(shape: Shape, environ: Mapping[str, str], log: Path) -> Iterator[Server]:
    """`qwenctl serve` with the model loaded, until the block ends."""
    port = _free_port()
    with _running([*_QWENCTL, "serve", "--port", str(port)], environ, log) as child:
        _wait_until(child, f"http://127.0.0.1:{port}/health", log)
        options = {
            "context_length": shape.context_tokens,
            "slots": shape.slots,
            "threads": shape.threads,
        }
        call = {"model": MODEL, "options": options, "keep_alive": -1}
        _post(f"http://127.0.0.1:{port}/qwenctl/v1/load", call)
        yield Server(port, child.pid)


@contextmanager
def llama_server(binary: Path, shape: Shape, log: Path) -> Iterator[Server]:
    """llama.cpp's server with the model loaded, until the block ends."""
    port = _free_port()
    command = [
        str(binary),
        *("--model", str(shape.path)),
        *("--port", str(port)),
        *("--threads", str(shape.threads)),
        *("--parallel", str(shape.slots)),
        *("--ctx-size", str(shape.slots * shape.context_tokens)),
        "--no-ui",
    ]
    with _running(command, os.environ, log) as child:
        _wait_until(child, f"http://127.0.0.1:{port}/health", log)
        yield Server(port, child.pid)


@contextmanager
def _running(
    command: Sequence[str], environ: Mapping[str, str], log: Path
) -> "Iterator[subprocess.Popen[bytes]]":
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def _wait_until(child: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    """Returns when `url` answers with 200, which llama-server does once the model is loaded."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise RunFailed(f"the server is not ready: {log.read_text(errors='replace')[-800:]}")


def _post(url: str, body: Mapping[str, Any]) -> Any:
    headers = {"Content-Type": "application/json"}
    call = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(call, timeout=START_SECONDS) as response:
            return json.load(response)
    except HTTPError as error:
        raise RunFailed(f"{url}: {error.read().decode(errors='replace')}") from error


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
