"""`qwenctl context`: runners on other machines, by name."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer, fields, table
from qwenctl.errors import Conflict, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenctl.cli.contexts import Context, Document

    Edit = Callable[[Document], Document]

app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A context's name.")]


class ContextReport(msgspec.Struct, frozen=True):
    """A context. `url` is null for `default`, the runner of this machine. A key is never told."""

    name: str
    url: str | None
    has_key: bool
    insecure: bool
    in_use: bool


class ContextListing(msgspec.Struct, frozen=True):
    """The data of `context list --json`; `path` is the file that they are in."""

    path: str
    contexts: list[ContextReport]


class ContextChange(msgspec.Struct, frozen=True):
    """The data of `context create --json`, `use` and `rm`: the context, and the one in use afterwards."""

    name: str
    in_use: str


@app.callback()
def root() -> None:
    """Name runners on other machines, and use one in place of this machine's own."""


@app.command("list")
def list_(json: Json = False, quiet: Quiet = False) -> None:
    """List the contexts, and the one in use. `default` is this machine's own runner.

    Example: qwenctl context list
    """
    from qwenctl.cli.contexts import DEFAULT, ContextsFile

    file = ContextsFile(os.environ)
    document, used = file.read(), _used()
    found = [_report(name, document, used) for name in (DEFAULT, *sorted(document.contexts))]
    rows = [(one.name, one.url or "this machine", _yes(one.has_key), _yes(one.in_use)) for one in found]
    names = "\n".join(one.name for one in found)
    text = names if quiet else table(("NAME", "URL", "KEY", "IN USE"), rows)
    Printer("context list", json).result(ContextListing(str(file.path), found), text)


@app.command("create")
def create(
    name: Name,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="http[s]://HOST[:PORT] of the server.")],
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="A file with its key alone; it is copied."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Do not verify its certificate.")] = False,
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
    json: Json = False,
) -> None:
    """Name the runner that `qwenctl serve --host …` is on another machine; an older one is replaced.

    Nothing is asked of it. The key is kept in a file for you alone, and sent to this host and nobody else.

    Example: qwenctl context create box --url http://box:12434 --api-key-file key
    """
    from qwenctl.cli.api_key import read_key
    from qwenctl.cli.contexts import DEFAULT, Context
    from qwenctl.runner.transport import parse_runner_url

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name == DEFAULT:
        raise UsageError(
            f"`{name}` cannot be the name of a context",
            hint="use letters, digits, `.`, `_` and `-`; `default` is this machine",
        )
    address = parse_runner_url(url)
    key = None if api_key_file is None else read_key(api_key_file)
    context = Context(address, key, insecure)

    def edit(document: "Document") -> "Document":
        current = name if use else document.current
        return msgspec.structs.replace(
            document, current=current, contexts={**document.contexts, name: context}
        )

    _change(Printer("context create", json), name, edit, f"{name} is {address}")
    for line in _warnings(context):
        Printer("context create", json).note(line)


@app.command("use")
def use(name: Name, json: Json = False) -> None:
    """Use a context from now on; `default` is this machine.

    Examples: qwenctl context use box · qwenctl context use default
    """

    def edit(document: "Document") -> "Document":
        document.find(name)
        return msgspec.structs.replace(document, current=name)

    _change(Printer("context use", json), name, edit, f"using {name}")


@app.command("show")
def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A context; without, the one in use.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a context, or the one in use.

    Example: qwenctl context show
    """
    from qwenctl.cli.contexts import ContextsFile

    document, used = ContextsFile(os.environ).read(), _used()
    report = _report(name or used, document, used)
    rows = [("Name", report.name), ("URL", report.url or "this machine"), ("Key", _yes(report.has_key))]
    rows += [("Certificate", "not verified" if report.insecure else ""), ("In use", _yes(report.in_use))]
    Printer("context show", json).result(report, fields(rows))


@app.command("rm")
def rm(name: Name, json: Json = False) -> None:
    """Forget a context and its key; when it was in use, this machine is used again.

    Example: qwenctl context rm box
    """
    from qwenctl.cli.contexts import DEFAULT

    if name == DEFAULT:
        raise Conflict("`default` is this machine, and stays", hint="`qwenctl context list`")

    def edit(document: "Document") -> "Document":
        document.find(name)
        left = {other: context for other, context in document.contexts.items() if other != name}
        current = DEFAULT if document.current == name else document.current
        return msgspec.structs.replace(document, current=current, contexts=left)

    _change(Printer("context rm", json), name, edit, f"removed {name}")


def _change(printer: Printer, name: str, edit: "Edit", text: str) -> None:
    from qwenctl.cli.contexts import RUNNER_VARIABLE, ContextsFile

    file = ContextsFile(os.environ)
    file.change(edit)
    printer.result(ContextChange(name, file.read().current), text)
    if os.environ.get(RUNNER_VARIABLE):
        printer.note(f"${RUNNER_VARIABLE} is set and goes before it")


def _used() -> str:
    """The name of what is used now, or its address. It may be gone; that is told by who speaks to it."""
    from qwenctl.cli.contexts import RUNNER_VARIABLE, ContextsFile

    return os.environ.get(RUNNER_VARIABLE) or ContextsFile(os.environ).read().current


def _report(name: str, document: "Document", used: str) -> ContextReport:
    """Raises: NotFound."""
    from qwenctl.cli.contexts import chosen

    context = chosen(name)[1] if "://" in name else document.find(name)
    if context is None:
        return ContextReport(name, None, False, False, name == used)
    return ContextReport(name, context.url, context.api_key is not None, context.insecure, name == used)


def _warnings(context: "Context") -> list[str]:
    """What somebody on the way could do."""
    from qwenctl.remote.routes import is_loopback

    parts = urlsplit(context.url)
    if is_loopback(parts.netloc):
        return []
    if parts.scheme == "http":
        what = "the key and every text" if context.api_key else "every text"
        return [f"warning: nothing is encrypted: the network can read {what}; use it where you trust that"]
    return ["warning: its certificate is not verified: anybody may answer for it"] if context.insecure else []


def _yes(value: bool) -> str:
    return "yes" if value else "-"
