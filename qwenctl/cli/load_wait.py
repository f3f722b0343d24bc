"""What is waited for between asking a runner and its first word, shown to a person at a terminal."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from qwenctl.cli.output import counted
from qwenctl.cli.terminal import waiting
from qwenctl.errors import QwenctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.messages import LoadedStatus

_POLL_SECONDS: Final = 1.0


@contextmanager
def told_while_loading(name: str, runner: "RunnerClient") -> Iterator[None]:
    """Says that `name` is loaded, or what it has to wait for, while the block waits for the runner."""
    with waiting(f"loading {name} …") as say:
        if not sys.stderr.isatty():
            yield
            return
        over = Event()
        Thread(target=_watch, args=(name, runner, say, over), daemon=True).start()
        try:
            yield
        finally:
            over.set()


def _watch(name: str, runner: "RunnerClient", say: "Callable[[str], None]", over: Event) -> None:
    while not over.wait(_POLL_SECONDS):
        try:
            say(stage(name, runner.loaded()))
        except QwenctlError:  # the request that is waited for will tell it
            return


def stage(name: str, loaded: "Sequence[LoadedStatus]") -> str:
    """What stands between a request and its answer, as far as the models in a runner tell it."""
    mine = next((one for one in loaded if one.name == name), None)
    others = [one for one in loaded if one.name != name]
    if mine is not None and mine.state == "ready":
        if mine.waiting:
            return f"waiting: {name} has {counted(mine.requests, 'request')}, {mine.waiting} without a slot …"
        return f"{name} reads the prompt …"
    if mine is None or mine.pid is None:
        for other in others:
            if other.state == "loading" and other.pid is not None:
                return f"waiting: {other.name} is loaded first …"
        if busy := [f"{one.name} ({counted(one.requests, 'request')})" for one in others if one.requests]:
            return f"waiting for a place in memory; at work: {', '.join(busy)} …"
    return f"loading {name} …"
