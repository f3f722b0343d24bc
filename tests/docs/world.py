"""Where a document's commands run: a home of their own, loopback servers, and no other network."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl.cli.wiring import load_settings
from qwenctl.oci.reference import Reference
from qwenctl.runner.client import RunnerClient
from qwenctl.store.store import Store
from tests.docs.transcripts import Block, Part, Preparation, Step
from tests.registry.running import running_registry
from tests.sparse_models import put_sparse_model

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: what would leave this machine fails."""

INSTALLED = {"make -s run": "qwenctl run guide", ". .venv/bin/activate": "true"}
"""The program is there already, and on the path."""


@dataclass
class World:
    """A reader's machine. `places` has what the documents call addresses, and what they are here."""

    home: Path
    stack: ExitStack
    places: dict[str, str] = field(default_factory=lambda: dict(INSTALLED))
    file: str = ""
    """The name that the next block is written under."""
    mirrors: str = ""

    def prepare(self, words: str) -> None:
        """Do what a comment says."""
        name, *rest = words.split()
        match name:
            case "serve":
                self._serve(*rest)
            case "registry":
                self._registry()
            case "hub":
                self._hub(*rest)
            case "file":
                (self.file,) = rest
            case _:
                raise AssertionError(f"no preparation is called {name}")

    def run(self, command: str, *, seconds: float = 60.0) -> tuple[int, str]:
        """The status of a command of the shell, and what it prints on both streams."""
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{self.local(command)}"],
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        return done.returncode, self.as_documented(f"{done.stdout.rstrip()}\n".lstrip("\n"))

    def local(self, command: str) -> str:
        """A command with the addresses of here."""
        for name, here in self.places.items():
            command = command.replace(name, here)
        return command

    def as_documented(self, out: str) -> str:
        """An output with the addresses and the home of the documents."""
        for name, here in self.places.items():
            if name not in INSTALLED:
                out = out.replace(here, name)
        return out.replace(str(self.home), "/home/me")

    def take(self, part: Part) -> tuple[int, str] | None:
        """What a step printed; other parts are prepared."""
        match part:
            case Preparation():
                self.prepare(part.words)
            case Block() if self.file:
                (self.home / self.file).write_text(part.text)
                self.file = ""
            case Step() if not part.skipped:
                return self.run(part.command)
            case _:
                pass
        return None

    def _serve(self, *options: str) -> None:
        served = subprocess.Popen(
            [sys.executable, "-m", "qwenctl", "serve", "--port", "0", "--json", *options],
            cwd=self.home,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stack.callback(_interrupt, served)
        assert served.stdout is not None
        self.places["127.0.0.1:12434"] = json.loads(served.stdout.readline())["address"]

    def _registry(self) -> None:
        address = self.stack.enter_context(running_registry(Store.open(self.home / ".registry")))
        self.places["localhost:5000"] = address

    def _hub(self, *models: str) -> None:
        """Docker Hub as far as it is needed: `NAME=SHAPE/QUANTIZATION` has the header of a real model."""
        store = Store.open(self.home / ".hub")
        for one in models:
            name, _, real = one.partition("=")
            shape, _, quantization = real.partition("/")
            put_sparse_model(store, Reference.parse(name), shape, quantization)
        address = self.stack.enter_context(running_registry(store))
        os.environ["QWENCTL_MIRRORS"] = self.mirrors = f"docker.io=http://{address}"


@contextmanager
def world(home: Path) -> Iterator[World]:
    """A machine that nobody has used yet; all that was started there ends with it."""
    os.environ.update(
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        HTTPS_PROXY=NOWHERE,
        HTTP_PROXY=NOWHERE,
        DOCKER_CONFIG=str(home / ".docker"),
    )
    with ExitStack() as stack:
        stack.callback(end_runner)
        yield World(home, stack)


def _interrupt(served: "subprocess.Popen[str]") -> None:
    served.send_signal(signal.SIGINT)
    served.communicate(timeout=20)
    assert served.returncode == 0, "the server did not end in order"


def end_runner() -> None:
    """No runner outlives its document."""
    settings = load_settings()
    runner = RunnerClient.running(settings)
    if runner is None:
        return
    runner.stop()
    runner.shutdown()
    deadline = time.monotonic() + 15
    while RunnerClient.running(settings) is not None:
        assert time.monotonic() < deadline, "the runner does not leave"
        time.sleep(0.02)
