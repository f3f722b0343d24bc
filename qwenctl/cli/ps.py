"""`qwenctl ps`: models that are loaded now."""

from typing import TYPE_CHECKING

import msgspec

from qwenctl.cli.options import ContextUrl, Json, Quiet
from qwenctl.cli.output import Printer, narrowed, terminal_columns
from qwenctl.units import render_bytes, render_duration

if TYPE_CHECKING:
    from qwenctl.runner.messages import LoadedStatus


class Loaded(msgspec.Struct, frozen=True):
    """The data of `ps --json`."""

    models: "list[LoadedStatus]"


def ps(json: Json = False, quiet: Quiet = False, context_url: ContextUrl = None) -> None:
    """List the models that are loaded now: requests on them, memory, and until when they stay.

    Example: qwenctl ps --json | jq '.data.models[].name'
    """
    from qwenctl.cli.contexts import running
    from qwenctl.cli.wiring import load_settings

    runner = running(load_settings(), context_url)
    models = runner.loaded() if runner else []
    Printer("ps", json).result(Loaded(models), _names(models) if quiet else _table(models))


def _names(models: "list[LoadedStatus]") -> str:
    return "\n".join(model.name for model in models)


def _table(models: "list[LoadedStatus]") -> str:
    headers = ("NAME", "ID", "STATE", "REQUESTS", "SLOTS", "CONTEXT", "GPU", "MEMORY", "UNTIL")
    spared = ("ID", "SLOTS", "CONTEXT", "REQUESTS", "GPU", "MEMORY")
    shown = narrowed(headers, [_row(model) for model in models], spared, terminal_columns())
    notes = [
        f"{model.name} is configured: {', '.join(model.configured)}" for model in models if model.configured
    ]
    return "\n".join([shown, *notes])


def _row(status: "LoadedStatus") -> tuple[str, ...]:
    return (
        status.name,
        status.id.removeprefix("sha256:")[:12],
        status.state,
        f"{status.requests}, {status.waiting} wait" if status.waiting else str(status.requests),
        str(status.model.slots) if status.model else "-",
        str(status.model.context_length) if status.model else "-",
        _on_gpus(status),
        render_bytes(status.resident_bytes) if status.resident_bytes else "-",
        _until(status),
    )


def _on_gpus(status: "LoadedStatus") -> str:
    """Layers on GPUs and what the model takes there, as it was loaded, else as it was planned."""
    memory = (status.model and status.model.memory) or (status.plan and status.plan.estimate)
    if not memory or not memory.gpu_layers:
        return "-"
    taken = sum(device.total_bytes for device in memory.devices)
    return f"{memory.gpu_layers}/{memory.layers} {render_bytes(taken)}"


def _until(status: "LoadedStatus") -> str:
    if status.state == "loading" or status.requests:
        return "in use"
    if status.expires_seconds is None:
        return "forever"
    return f"{render_duration(status.expires_seconds)} from now"
