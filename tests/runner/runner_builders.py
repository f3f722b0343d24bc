"""Runners for tests: models that exist by name only, workers that need none, one life in a thread."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwenctl.api.library import Library
from qwenctl.errors import ReferenceUnknown
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import RunnerStatus
from qwenctl.runner.models import FoundModel, LoadPlanner, ModelSource
from qwenctl.runner.service import ServiceOptions, run
from qwenctl.runtime.engine import ChatRequest, Message
from qwenctl.runtime.events import Event, TextDelta
from qwenctl.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SCRIPTED_WORKER = (sys.executable, "-P", str(Path(__file__).with_name("scripted_worker.py")))
SERVICE_PROGRAM = (sys.executable, "-P", str(Path(__file__).with_name("service_program.py")))
LONG = "so it goes on and on, " * 20
"""A text that a slow model takes 9 seconds to repeat."""


class NamedModels:
    """A source whose models are called like the behaviour they show; `alias` is another name for `echo`."""

    NAMES = ("echo", "other", "third", "slow", "late", "very-late", "refused", "crashing")

    def find(self, name: str) -> FoundModel:
        """See `ModelSource`."""
        name = "echo" if name == "alias" else name
        if name not in self.NAMES:
            raise ReferenceUnknown(f"`{name}` is not here", hint="pull it first")
        return FoundModel(
            name=name, id=f"sha256:{name}", path=Path(f"/nowhere/{name}.gguf"), created_seconds=1
        )

    def models(self) -> Sequence[FoundModel]:
        """See `ModelSource`."""
        return [self.find(name) for name in self.NAMES]


class Files:
    """A source of the GGUF files in a directory, by their names."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, name: str) -> FoundModel:
        """See `ModelSource`."""
        path = self._directory / f"{name}.gguf"
        if not path.exists():
            raise ReferenceUnknown(f"`{name}` is not here")
        return FoundModel(name=name, id=f"sha256:{name}", path=path)

    def models(self) -> Sequence[FoundModel]:
        """See `ModelSource`."""
        return [self.find(path.stem) for path in sorted(self._directory.glob("*.gguf"))]


def ask(text: str, **fields: Any) -> ChatRequest:
    """A conversation of one message."""
    return ChatRequest(messages=(Message("user", text),), **fields)


def text_of(events: Sequence[Event]) -> str:
    """The text that `events` carry."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def settings_in(directory: Path) -> Settings:
    """Settings whose every path is below `directory`."""
    return Settings(store=directory / "store", runtime=directory / "run", state=directory / "state")


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until `condition` is true, and fails when it is not after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


@contextmanager
def service(
    settings: Settings,
    source: ModelSource | None = None,
    planner: LoadPlanner | None = None,
    open_library: Callable[[], Library] | None = None,
    **options: Any,
) -> Iterator[tuple[RunnerClient, RunnerStatus]]:
    """A runner that lives in a thread with scripted workers; ended afterwards, if it did not end itself."""
    chosen = replace(ServiceOptions(worker_argv=SCRIPTED_WORKER, drain_seconds=1), **options)
    ready = threading.Event()
    seen: list[RunnerStatus] = []

    def on_ready(status: RunnerStatus) -> None:
        seen.append(status)
        ready.set()

    def live() -> None:
        try:
            run(settings, source or NamedModels(), chosen, on_ready, planner, open_library)
        finally:
            ready.set()

    thread = threading.Thread(target=live)
    thread.start()
    assert ready.wait(10)
    try:
        yield RunnerClient(settings), seen[0]
    finally:
        if client := RunnerClient.running(settings):
            client.shutdown()
        thread.join(15)
        assert not thread.is_alive()
