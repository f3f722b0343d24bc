"""`qwenctl rm`: remove models from the store."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer
from qwenctl.errors import Conflict
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.find import Found
    from qwenctl.settings import Settings


class Removal(msgspec.Struct, frozen=True):
    """The data of `rm --json`."""

    untagged: list[str]
    deleted: list[str]
    freed_bytes: int


def rm(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Models to remove, by name or id.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Also when it is loaded.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Remove models. Content that another name still needs is kept, the rest is freed at once.

    Example: qwenctl rm qwen2.5:7B-F16
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.remove import remove

    settings, catalog = load_settings(), open_catalog()
    store = open_store(settings)
    founds = [find(model, store, catalog, settings.registry) for model in models]
    if not force:
        _refuse_loaded(founds, settings)
    removed = remove(founds, store)
    untagged = [found.name for found in founds]
    deleted = [str(digest) for digest in removed.digests]
    lines = [*untagged] if quiet else [f"untagged {name}" for name in untagged]
    lines += [] if quiet else [f"deleted {digest}" for digest in deleted]
    freed = f"freed {render_bytes(removed.size_bytes)}" if deleted else "freed nothing: other names share it"
    printer = Printer("rm", json, quiet)
    printer.result(Removal(untagged, deleted, removed.size_bytes), "\n".join(lines))
    printer.note(freed)


def _refuse_loaded(founds: "list[Found]", settings: "Settings") -> None:
    """A loaded model stays, unless forced: its users would lose it in mid-sentence."""
    if not (settings.runtime / "runner.sock").exists():
        return
    from qwenctl.runner.client import RunnerClient

    runner = RunnerClient.running(settings)
    loaded = {model.id for model in runner.loaded()} if runner else set()
    for found in founds:
        if str(found.root.digest) in loaded:
            raise Conflict(
                f"`{found.name}` is loaded", hint=f"`qwenctl stop {found.name}` first, or give --force"
            )
