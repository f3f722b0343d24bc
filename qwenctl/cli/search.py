"""`qwenctl search`: models by words, in the catalogue and on Docker Hub."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer, counted, table
from qwenctl.units import render_bytes, render_count

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.search import FoundModel, Judge, SearchReport
    from qwenctl.model.card import Card
    from qwenctl.remote.hub_search import HubModel
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store

_LEAST_COLUMNS: Final = 20  # of a description


def search(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[WORD…]", help="All of them are in it; none finds all.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 32,
    offline: Annotated[bool, typer.Option("--offline", help="Only the catalogue, no network.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find models: names, sizes, languages and descriptions, in the catalogue and on Docker Hub.

    HERE: it is in the store. FITS: how many variants fit this machine, of those that `qwenctl show` can
    judge. Examples: qwenctl search qwen · qwenctl search coder 30b
    · qwenctl search --json | jq -r '.data.models[].name'
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.search import SearchReport
    from qwenctl.flows.search import search as search_models

    settings = load_settings()
    asked = [part for word in words or () for part in word.split()]
    hub, problem = ([], "not asked") if offline or not settings.hub else _ask(settings)
    catalog, store = open_catalog(), open_store(settings)
    stored = frozenset(reference for reference, _ in store.tags())
    found = search_models(asked, catalog.cards(), stored, hub, _judge(settings, store, catalog))
    report = SearchReport(words=asked, models=found[:limit], total=len(found), hub_problem=problem)
    printer = Printer("search", json, quiet)
    printer.result(report, "\n".join(m.name for m in report.models) if quiet else _table(report))
    for line in _notes(report, offline):
        printer.note(line)


def _ask(settings: "Settings") -> "tuple[list[HubModel], str | None]":
    """What Docker Hub has, or why it said nothing: the catalogue is an answer, too."""
    from qwenctl.cli.terminal import waiting
    from qwenctl.errors import RemoteError
    from qwenctl.remote.hub_search import list_hub

    with waiting("asking Docker Hub …"):
        try:
            return list(list_hub(settings)), None
        except RemoteError as error:
            return [], error.message


def _judge(settings: "Settings", store: "Store", catalog: "Catalog") -> "Judge":
    """The verdicts of `show` on this machine."""
    from qwenctl.cli.memory import open_machine
    from qwenctl.flows.fit_card import judge_variants
    from qwenctl.flows.show import Shown

    machine = open_machine(settings)

    def judge(card: "Card") -> dict[str, bool | None]:
        views = judge_variants(Shown(card, (), None), store, catalog, machine)
        return {view.name: None if view.fit is None else view.fit.verdict != "no" for view in views}

    return judge


def _notes(report: "SearchReport", offline: bool) -> list[str]:
    lines = [] if report.total else ["nothing was found"]
    if report.total > len(report.models):
        lines.append(f"{counted(report.total - len(report.models), 'model')} more: `--limit {report.total}`")
    if report.hub_problem and not offline:
        lines.append(f"note: only the catalogue; Docker Hub: {report.hub_problem}")
    return lines


def _table(report: "SearchReport") -> str:
    if not report.models:
        return ""
    rows = [_row(model) for model in report.models]
    headers: tuple[str, ...] = ("NAME", "PARAMETERS", "SIZE", "HERE", "FITS", "PULLS", "DESCRIPTION")
    if not any(row[-2] for row in rows):
        rows, headers = [(*row[:-2], row[-1]) for row in rows], (*headers[:-2], headers[-1])
    return table(headers, _cut(headers, rows))


def _row(model: "FoundModel") -> tuple[str, ...]:
    sizes = [variant.size_bytes for variant in model.variants if variant.size_bytes]
    judged = [variant.fits for variant in model.variants if variant.fits is not None]
    parameters = sorted({variant.parameters for variant in model.variants}, key=_number)
    return (
        model.name,
        _span(parameters),
        _span([render_bytes(size) for size in sorted(sizes)]),
        "yes" if model.pulled else "",
        f"{sum(judged)}/{len(judged)}" if judged else "-",
        render_count(model.pulls).replace(" ", "") if model.pulls is not None else "",
        model.description.split(". ")[0].rstrip("."),
    )


def _span(sorted_texts: list[str]) -> str:
    """The first and the last, once when they are the same."""
    return " to ".join(dict.fromkeys((sorted_texts[0], sorted_texts[-1]))) if sorted_texts else "-"


def _number(parameters: str) -> float:
    from qwenctl.units import parse_bytes

    return float(parse_bytes(parameters.replace("B", "G").replace(" ", "")))


def _cut(headers: tuple[str, ...], rows: "list[tuple[str, ...]]") -> "list[tuple[str, ...]]":
    """Descriptions that end at the edge of the terminal; in a pipe they are whole."""
    if not sys.stdout.isatty():
        return rows
    from shutil import get_terminal_size

    used = sum(max(len(line[column]) for line in (headers, *rows)) + 2 for column in range(len(headers) - 1))
    room = max(get_terminal_size().columns - used, _LEAST_COLUMNS)
    return [(*row[:-1], row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…") for row in rows]
