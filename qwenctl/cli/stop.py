"""`qwenctl stop`: unload models."""

from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import ContextUrl, Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError


class Stopped(msgspec.Struct, frozen=True):
    """The data of `stop --json`: the names of the models that were unloaded."""

    stopped: list[str]


def stop(
    models: Annotated[list[str] | None, typer.Argument(metavar="MODEL…", help="Models to unload.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Unload every model.")] = False,
    context_url: ContextUrl = None,
    json: Json = False,
) -> None:
    """Unload models from memory; requests that still run on them end.

    Example: qwenctl stop qwen2.5
    """
    from qwenctl.cli.contexts import running
    from qwenctl.cli.wiring import load_settings

    if bool(models) == every:
        raise UsageError("name the models to stop, or give --all", hint="`qwenctl ps` shows what is loaded")
    runner = running(load_settings(), context_url)
    stopped: list[str] = []
    if runner:
        for model in models if models else (None,):
            stopped += runner.stop(model)
    lines = [f"stopped {name}" for name in stopped] or ["nothing was loaded"]
    Printer("stop", json).result(Stopped(stopped), "\n".join(lines))
