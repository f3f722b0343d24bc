"""`qwenctl serve`: the runner in the foreground, with a TCP port."""

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.api_key import KEY_VARIABLE, checked_key, read_key
from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer

if TYPE_CHECKING:
    from qwenctl.runner.messages import RunnerStatus
    from qwenctl.settings import Settings


class Serving(msgspec.Struct, frozen=True):
    """The line of `serve --json` once requests are answered; the envelope follows at the end.

    `url` is for clients on this machine; `address` is what the port is bound to.
    """

    event: str
    url: str | None
    pid: int
    address: str | None = None


Host = Annotated[
    str | None,
    typer.Option("--host", metavar="ADDRESS", help="Listen here; 0.0.0.0 is all; beyond loopback: a key."),
]
Port = Annotated[
    int | None, typer.Option("--port", "-p", help="TCP port, 12434 by default; 0 is any free one.")
]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", metavar="KEY", help=f"Clients need it. `ps` shows it: better ${KEY_VARIABLE}."),
]
ApiKeyFile = Annotated[
    str | None, typer.Option("--api-key-file", metavar="FILE", help="A file with the key alone.")
]
Cors = Annotated[
    list[str] | None,
    typer.Option("--cors", metavar="ORIGIN", help="Pages of it may ask; * is all; repeatable."),
]
RequestTimeout = Annotated[
    str | None, typer.Option("--request-timeout", metavar="DURATION", help="Longest request; no limit.")
]
MaxModels = Annotated[
    int | None, typer.Option("--max-models", min=1, help="Models in memory at a time; 3 by default.")
]
MaxQueue = Annotated[
    int | None, typer.Option("--max-queue", min=1, help="Requests that wait for a model; 512.")
]
RecordBodies = Annotated[
    bool, typer.Option("--record-bodies", help="Keep texts for `requests --bodies`, in memory.")
]


def serve(
    host: Host = None,
    port: Port = None,
    api_key: ApiKey = None,
    api_key_file: ApiKeyFile = None,
    cors: Cors = None,
    request_timeout: RequestTimeout = None,
    max_models: MaxModels = None,
    max_queue: MaxQueue = None,
    record_bodies: RecordBodies = False,
    json: Json = False,
) -> None:
    """Serve the APIs of OpenAI, Anthropic, Ollama and Docker on 127.0.0.1:12434, until Ctrl-C.

    Examples: qwenctl serve · QWENCTL_API_KEY=… qwenctl serve --host 0.0.0.0
    """
    from qwenctl.cli.memory import MemoryPlanner
    from qwenctl.cli.models import StoreModels
    from qwenctl.cli.wiring import load_settings, open_library
    from qwenctl.runner.service import ServiceOptions, run

    printer = Printer("serve", json)
    settings = load_settings(
        host=host,
        port=_text(port),
        api_key_file=api_key_file,
        cors=",".join(cors) if cors else None,
        request_timeout_seconds=request_timeout,
        max_models=_text(max_models),
        max_queue=_text(max_queue),
    )
    key = _key(api_key, api_key_file is not None, settings)

    def ready(status: "RunnerStatus") -> None:
        printer.event(Serving("ready", status.url, status.pid, status.address))
        printer.note(f"serving on {status.url}/v1, store {status.store}; Ctrl-C ends it")
        for line in _audience(status.address or "", key is not None, settings):
            printer.note(line)

    options = ServiceOptions(foreground=True, port=settings.port, api_key=key, records_bodies=record_bodies)
    library = partial(open_library, settings)
    planner = MemoryPlanner(settings)
    run(settings, StoreModels(settings), options, ready, planner=planner, open_library=library)
    printer.result(None)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _key(flag: str | None, file_flag: bool, settings: "Settings") -> str | None:
    """The key: a flag goes before the variable, that before the file of the settings."""
    # Workers and what else this process starts have no use for it.
    variable = os.environ.pop(KEY_VARIABLE, None) or None
    if flag is not None:
        return checked_key(flag, "--api-key")
    if variable is not None and not file_flag:
        return checked_key(variable, f"${KEY_VARIABLE}")
    if settings.api_key_file is None:
        return None
    return read_key(settings.api_key_file)


def _audience(address: str, has_key: bool, settings: "Settings") -> list[str]:
    """Who can reach it, in words."""
    from qwenctl.runner.listen import resolve_address

    bound = resolve_address(address.rpartition(":")[0], 0)
    if bound.is_loopback:
        who = "programs on this machine that have the key" if has_key else "any program on this machine"
        lines = [f"who can use it: {who}"]
    else:
        where = "any network of this machine" if bound.is_unspecified else f"the network of {bound.host}"
        lines = [
            f"listening on {address}; who can use it: everyone on {where} who has the key",
            "nothing is encrypted: on a network that you do not trust put a proxy with TLS before it",
        ]
    if settings.cors:
        pages = (
            "any web page that you open" if "*" in settings.cors else f"web pages of {_list(settings.cors)}"
        )
        lines.append(f"and {pages}{', with the key' if has_key else ''}")
    return lines


def _list(words: tuple[str, ...]) -> str:
    return ", ".join(words)
