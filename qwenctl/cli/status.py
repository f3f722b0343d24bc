"""`qwenctl status`: where things are and what they hold."""

import os
from typing import TYPE_CHECKING

import msgspec

from qwenctl.cli.options import ContextUrl, Json
from qwenctl.cli.output import Printer, counted, fields
from qwenctl.units import render_bytes, render_duration

if TYPE_CHECKING:
    from qwenctl.runner.messages import RunnerStatus


class StoreStatus(msgspec.Struct, frozen=True):
    """The store: where it is and what it holds; `df` says more.

    `partial_bytes` are interrupted downloads, `damaged_bytes` what `verify` moved aside.
    """

    path: str
    tags: int
    blobs: int
    size_bytes: int
    partial_bytes: int
    damaged_bytes: int


class Status(msgspec.Struct, frozen=True):
    """The data of `status --json`; `runner` is null when none runs, which is no fault.

    `context` is the runner in use: `default` is this machine's own. All else is of this machine.
    """

    store: StoreStatus
    settings_file: str
    log: str
    runner: "RunnerStatus | None"
    context: str = "default"


def status(json: Json = False, context_url: ContextUrl = None) -> None:
    """Show where the store, the settings and the log are, and what the runner does.

    Example: qwenctl status
    """
    from qwenctl.cli.contexts import chosen, running
    from qwenctl.cli.wiring import load_settings, open_store, settings_file
    from qwenctl.runner.messages import LOG_NAME

    settings = load_settings()
    store = open_store(settings)
    usage = store.usage()
    runner = running(settings, context_url)
    held = StoreStatus(
        str(store.path),
        len(store.tags()),
        usage.blobs,
        usage.size_bytes,
        usage.partial_bytes,
        usage.damaged_bytes,
    )
    shown = Status(
        held,
        str(settings_file(os.environ)),
        str(settings.state / LOG_NAME),
        runner.status() if runner else None,
        chosen(context_url)[0],
    )
    Printer("status", json).result(shown, _text(shown))


def _text(status: Status) -> str:
    store = status.store
    partial = f", {render_bytes(store.partial_bytes)} of interrupted downloads" if store.partial_bytes else ""
    partial += f", {render_bytes(store.damaged_bytes)} of damaged blobs" if store.damaged_bytes else ""
    return fields(
        [
            ("Store", store.path),
            ("Holds", f"{counted(store.tags, 'model')}, {render_bytes(store.size_bytes)}{partial}"),
            ("Settings", status.settings_file),
            ("Log", status.log),
            ("Context", status.context if status.context != "default" else ""),
            ("Runner", _runner_text(status.runner)),
        ]
    )


def _runner_text(runner: "RunnerStatus | None") -> str:
    if runner is None:
        return "not running; it starts when a model is needed"
    where = f" at {runner.url}" if runner.url else ""
    up = render_duration(runner.uptime_seconds)
    return f"process {runner.pid}{where}, up {up}, {runner.models} loaded, {runner.requests} requests"
