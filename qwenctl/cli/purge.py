"""`qwenctl purge`: remove every model."""

from typing import TYPE_CHECKING, Annotated

import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, counted
from qwenctl.errors import Conflict, UsageError
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.purge import PurgeReport
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store


def purge(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Do not ask, and end what runs on the models.")
    ] = False,
    json: Json = False,
) -> None:
    """Remove all models, interrupted downloads and damaged blobs. Settings, logs and chats stay.

    Models that are loaded are unloaded. Refused while requests or pulls run; with --force requests end, and
    what a pull brings stays. Example: qwenctl purge --yes
    """
    from qwenctl.cli.wiring import load_settings, open_store
    from qwenctl.flows.purge import purge as remove_all

    printer, settings = Printer("purge", json), load_settings()
    store = open_store(settings)
    if not force:
        _refuse_busy(store, settings)
    if not (yes or force or _agreed(store, printer)):
        printer.note("nothing was removed")
        return
    report = remove_all(store, _unload(settings))
    printer.result(report, _text(report))
    for line in report.kept:
        printer.note(f"kept {line}")


def _refuse_busy(store: "Store", settings: "Settings") -> None:
    """Raises: Conflict while somebody works with what would go."""
    from qwenctl.flows.purge import is_busy
    from qwenctl.runner.client import RunnerClient

    runner = RunnerClient.running(settings)
    requests = runner.status().requests if runner else 0
    if requests:
        raise Conflict(
            f"{counted(requests, 'request')} at work on models",
            hint="wait, or `--force` ends what is running",
        )
    if is_busy(store):
        raise Conflict("a pull or a push is at work on the store", hint="wait, or give --force")


def _agreed(store: "Store", printer: Printer) -> bool:
    """Whether the person at the terminal wants it. Raises: UsageError where nobody can be asked."""
    from qwenctl.cli.terminal import confirmed, interactive

    usage = store.usage()
    size = render_bytes(usage.size_bytes + usage.partial_bytes + usage.damaged_bytes)
    what = f"{counted(len(store.tags()), 'model')} ({size})"
    if printer.as_json or not interactive():
        raise UsageError(f"{what} would be removed, and nobody can be asked", hint="`--yes` removes them")
    return confirmed(f"remove {what} in {store.path}?")


def _unload(settings: "Settings") -> list[str]:
    """The names of the models that were loaded, and are not any more."""
    from qwenctl.runner.client import RunnerClient

    runner = RunnerClient.running(settings)
    return runner.stop() if runner else []


def _text(report: "PurgeReport") -> str:
    lines = [f"removed {name}" for name in report.untagged]
    return "\n".join([*lines, f"freed {render_bytes(report.freed_bytes)}"])
