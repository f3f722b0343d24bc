"""`qwenctl serve`: the runner in the foreground, with a TCP port."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer

if TYPE_CHECKING:
    from qwenctl.runner.messages import RunnerStatus


class Serving(msgspec.Struct, frozen=True):
    """The line of `serve --json` once requests are answered; the envelope follows at the end."""

    event: str
    url: str | None
    pid: int


def serve(
    port: Annotated[
        int | None, typer.Option("--port", "-p", help="TCP port on 127.0.0.1; 0 is any free one.")
    ] = None,
    json: Json = False,
) -> None:
    """Serve the OpenAI API on 127.0.0.1:12434, in the foreground, until Ctrl-C.

    Example: qwenctl serve & curl http://127.0.0.1:12434/v1/models
    """
    from qwenctl.cli.memory import MemoryPlanner
    from qwenctl.cli.models import StoreModels
    from qwenctl.cli.wiring import load_settings
    from qwenctl.runner.service import ServiceOptions, run

    printer = Printer("serve", json)
    settings = load_settings(port=None if port is None else str(port))

    def ready(status: "RunnerStatus") -> None:
        printer.event(Serving("ready", status.url, status.pid))
        printer.note(f"serving on {status.url}/v1, store {status.store}; Ctrl-C ends it")

    options = ServiceOptions(foreground=True, port=settings.port)
    run(settings, StoreModels(settings), options, ready, planner=MemoryPlanner(settings))
    printer.result(None)
