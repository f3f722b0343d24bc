"""`qwenctl registry serve`: an OCI registry over the store."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer

app = typer.Typer(
    help="The built-in OCI registry.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class RegistryReady(msgspec.Struct, frozen=True):
    """The line of `registry serve --json` once it answers; the envelope follows at the end."""

    event: str
    address: str
    store: str


@app.callback()
def root() -> None:
    """The built-in OCI registry."""


@app.command("serve")
def serve(
    store: Annotated[
        Path | None, typer.Option("--store", metavar="PATH", help="An OCI layout; the store by default.")
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="0 is any free port.")] = 5000,
    json: Json = False,
) -> None:
    """Serve the store as an OCI registry on 127.0.0.1, until Ctrl-C.

    Others pull from it by name, and push into it. Example: qwenctl registry serve --port 5000
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.registry.server import serve as serve_registry

    settings = load_settings(store=str(store) if store else None)
    opened = open_store(settings)
    printer = Printer("registry serve", json)

    def ready(address: str) -> None:
        printer.event(RegistryReady("ready", address, str(opened.path)))
        printer.note(f"registry on {address}, store {opened.path}; Ctrl-C ends it")

    serve_registry(opened, fallback=open_catalog().store, port=port, on_ready=ready)
    printer.result(None)
