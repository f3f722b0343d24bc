"""`qwenctl requests`: what was asked of the runner lately."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from qwenctl.cli.options import ContextUrl, Json
from qwenctl.cli.output import Printer, encode, narrowed, terminal_columns, write_line
from qwenctl.units import render_duration

if TYPE_CHECKING:
    from qwenctl.runner.messages import RequestRecord
    from qwenctl.settings import Settings

HEADERS: Final = (
    *("ID", "TIME", "PATH", "MODEL", "HTTP", "PROMPT", "CACHED", "OUT", "FIRST", "TOTAL", "TOK/S", "ENDED"),
)
_SPARED: Final = ("CACHED", "FIRST", "HTTP", "TOK/S", "PROMPT", "PATH", "ID")
"""Columns that a narrow terminal goes without, the first first."""
_WIDTHS: Final = (4, 8, 20, 16, 4, 6, 6, 6, 6, 6, 6, 0)  # for lines that come one by one
_POLL_SECONDS: Final = 0.5


class RequestsReport(msgspec.Struct, frozen=True):
    """The data of `requests --json`, by their ends, those under way last; with `-f` each is a line."""

    requests: "list[RequestRecord]"


def requests(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only those of this model.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many of the last.")] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with those that end, until Ctrl-C.")
    ] = False,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="With texts, where `serve --record-bodies` kept them.")
    ] = False,
    context_url: ContextUrl = None,
    json: Json = False,
) -> None:
    """List the last requests: tokens, time to the first token and to the end, and how they ended.

    The runner keeps the last 1000. FIRST and TOTAL count from the arrival, waiting and loading included.

    Examples: qwenctl requests · qwenctl requests -f qwen2.5
    """
    from qwenctl.cli.contexts import running
    from qwenctl.cli.following import until_interrupted
    from qwenctl.cli.wiring import load_settings

    printer = Printer("requests", json)
    settings = load_settings()
    if follow:
        with until_interrupted(printer):
            _follow(_ending(settings, context_url, model, count, bodies), printer, bodies)
    runner = running(settings, context_url)
    found = runner.requests(model, limit=count, bodies=bodies) if runner else []
    if bodies and not any(record.request is not None for record in found):
        printer.note("no texts were kept: `serve --record-bodies`, or `configure MODEL --record-bodies`")
    shown = narrowed(HEADERS, map(_row, found), _SPARED, terminal_columns())
    lines = [shown, *(_bodies(record) for record in found if bodies)]
    printer.result(RequestsReport(found), "\n".join(filter(None, lines)))


def _ending(
    settings: "Settings", context_url: str | None, model: str | None, count: int, bodies: bool
) -> "Iterator[RequestRecord]":
    """The last requests that are over, then each one as it ends, whatever runner there is."""
    from qwenctl.cli.contexts import running
    from qwenctl.errors import RunnerUnavailable

    after, limit = 0, count
    while True:
        try:
            runner = running(settings, context_url)
            found = runner.requests(model, limit=limit, after=after, bodies=bodies) if runner else []
        except RunnerUnavailable:
            found, after = [], 0  # another one counts from the beginning
        for record in found:
            if record.number:
                yield record
                after = max(after, record.number)
        limit = 1000
        time.sleep(_POLL_SECONDS)


def _follow(records: "Iterator[RequestRecord]", printer: Printer, bodies: bool) -> None:
    if not printer.as_json:
        write_line(_aligned(HEADERS))
    for record in records:
        if printer.as_json:
            write_line(encode(record))
            continue
        write_line("\n".join(filter(None, (_aligned(_row(record)), _bodies(record) if bodies else ""))))


def _aligned(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _row(record: "RequestRecord") -> tuple[str, ...]:
    first, rate = record.first_token_seconds, record.tokens_per_second
    return (
        str(record.id),
        record.time.astimezone().strftime("%H:%M:%S"),
        record.path or "-",
        record.model or "-",
        str(record.status or "-"),
        str(record.prompt_tokens),
        str(record.cached_tokens),
        str(record.completion_tokens),
        _seconds(first) if first is not None else "-",
        _seconds(record.seconds),
        f"{rate:.1f}" if rate else "-",
        record.ended or "running",
    )


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else render_duration(seconds)


def _bodies(record: "RequestRecord") -> str:
    if record.request is None:
        return ""
    asked = msgspec.json.encode(record.request).decode()
    return f"--- request {record.id}\n{asked}\n--- answer\n{record.answer or ''}"
