"""`qwenctl df`: what the store takes on disk, and what of it can go."""

from typing import TYPE_CHECKING, Annotated

import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, ago, counted, table
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.usage import ModelUsage, PartialUsage, Share, UsageReport


def df(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every model and every partial download.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what the store takes on disk: models, what they share, interrupted downloads, what can go.

    Everything is counted once, and the total is what `du` says. Example: qwenctl df -v
    """
    from qwenctl.cli.wiring import load_settings, open_store
    from qwenctl.flows.usage import usage

    report = usage(open_store(load_settings()))
    printer = Printer("df", json)
    printer.result(report, _text(report, verbose))
    if report.reclaimable_bytes:
        printer.note(f"hint: `qwenctl prune` frees {render_bytes(report.reclaimable_bytes)}")
    elif report.later_bytes:
        freed = render_bytes(report.later_bytes)
        printer.note(f"hint: {freed} more can go in time, or now with `qwenctl prune --older-than 0`")


def _text(report: "UsageReport", verbose: bool) -> str:
    parts = [_models(report.models), *([_partials(report.partials)] if report.partials else [])]
    return "\n\n".join([*(parts if verbose else []), _summary(report)])


def _summary(report: "UsageReport") -> str:
    named: list[tuple[str, Share]] = [
        (f"blobs of {counted(len(report.models), 'model')}", report.blobs),
        ("unreferenced blobs", report.unreferenced),
        ("partial downloads", report.partial_downloads),
        ("registry uploads", report.uploads),
        ("damaged blobs", report.damaged),
        ("index and other files", report.other),
    ]
    rows = [
        (name, str(share.count), render_bytes(share.disk_bytes), render_bytes(share.reclaimable_bytes))
        for name, share in named
        if share.count or share is report.blobs
    ]
    total = ("all", "", render_bytes(report.disk_bytes), render_bytes(report.reclaimable_bytes))
    text = table(("WHAT", "COUNT", "ON DISK", "RECLAIMABLE"), [*rows, total])
    return f"{text}\n\n{render_bytes(report.free_bytes)} free at {report.path}"


def _models(models: "list[ModelUsage]") -> str:
    rows = [
        (
            ", ".join(model.names) + (" (incomplete)" if model.incomplete else ""),
            model.id.partition(":")[2][:12],
            render_bytes(model.size_bytes),
            render_bytes(model.shared_bytes),
            render_bytes(model.unique_bytes),
        )
        for model in models
    ]
    return table(("MODEL", "ID", "SIZE", "SHARED", "UNIQUE"), rows)


def _partials(partials: "list[PartialUsage]") -> str:
    rows = [
        (
            item.digest.partition(":")[2][:12],
            render_bytes(item.present_bytes),
            "now" if item.active else ago(item.changed),
        )
        for item in partials
    ]
    return table(("PARTIAL DOWNLOAD", "HERE", "CHANGED"), rows)
