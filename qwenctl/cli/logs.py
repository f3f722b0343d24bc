"""`qwenctl logs`: what the runner and its workers said."""

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, encode, write_line
from qwenctl.errors import ReferenceUnknown, UsageError

if TYPE_CHECKING:
    from qwenctl.runner.log import LogLine
    from qwenctl.settings import Settings


class LogReport(msgspec.Struct, frozen=True):
    """The data of `logs --json`, after a line for each of the log: where the log is, and how many lines."""

    path: str
    lines: int


def logs(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only what it, or the runner of it, said.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    tail: Annotated[str, typer.Option("--tail", "-n", metavar="N", help="Last lines shown; `all`.")] = "100",
    json: Json = False,
) -> None:
    """Show the log of the runner and of the models in it; texts of requests are never there.

    Examples: qwenctl logs · qwenctl logs -f · qwenctl logs --tail all qwen2.5
    """
    from qwenctl.cli.following import until_interrupted
    from qwenctl.cli.wiring import load_settings
    from qwenctl.runner.log import Follower, read_log
    from qwenctl.runner.messages import LOG_NAME

    printer = Printer("logs", json)
    count = _count(tail)
    settings = load_settings()
    path = settings.state / LOG_NAME
    name = None if model is None else _canonical(model, settings)

    def wanted(line: "LogLine") -> bool:
        return name is None or line.is_about(name)

    with until_interrupted(printer), ExitStack() as stack:
        # Before the rest is read, so that no line is missed.
        follower = stack.enter_context(closing(Follower(path))) if follow else None
        shown = read_log(path, count, wanted, follower.position if follower else None)
        for line in shown:
            _show(line, printer)
        if not shown and follower is None:
            printer.note("the log is empty" if path.exists() else "there is no log yet")
        for line in follower.lines() if follower else ():
            if wanted(line):
                _show(line, printer)
    printer.result(LogReport(str(path), len(shown)))


def _count(tail: str) -> int | None:
    if tail == "all":
        return None
    if not tail.isascii() or not tail.isdigit():
        raise UsageError(f"`--tail` cannot be `{tail}`", hint="give a number of lines, or `all`")
    return int(tail)


def _canonical(model: str, settings: "Settings") -> str:
    """The model's name as the log has it; one that is not in the store any more as it was given."""
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import find

    try:
        return find(model, open_store(settings), open_catalog(), settings.registry).name
    except ReferenceUnknown:
        return model


def _show(line: "LogLine", printer: Printer) -> None:
    text = " ".join(filter(None, (line.time, line.level, line.source, line.text)))
    write_line(encode(line) if printer.as_json else text)
