"""`qwenctl prune`: remove what nothing refers to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, counted, table
from qwenctl.errors import UsageError
from qwenctl.units import parse_duration, render_bytes, render_duration

if TYPE_CHECKING:
    from qwenctl.flows.prune import Ages, PruneReport, Removable

KINDS: Final = {
    "blob": "unreferenced blob",
    "partial": "partial download",
    "upload": "registry upload",
    "damaged": "damaged blob",
    "draft": "draft",
    "lease": "void lease",
}
"""What the kinds of removable things are called."""


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Take what is older: 12h, 7d; 0 for everything."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Remove what no model needs: blobs without a name, interrupted downloads, damaged blobs.

    Without --older-than partial downloads must be a week old, blobs and uploads a day. What running pulls
    need stays. Asks before. Example: qwenctl prune --dry-run
    """
    from qwenctl.cli.wiring import load_settings, open_store
    from qwenctl.flows.prune import Ages, plan
    from qwenctl.flows.prune import prune as remove

    ages = Ages() if older_than is None else Ages.of(_seconds(older_than))
    store = open_store(load_settings())
    printer = Printer("prune", json)
    report = plan(store, ages)
    if not dry_run and report.removed:
        if not (force or _agreed(report, ages, printer)):
            printer.note("nothing was removed")
            return
        report = remove(store, ages)
    printer.result(report, _text(report))
    for line in _notes(report):
        printer.note(line)


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"--older-than: {error.message}", hint="write it like 12h, 7d or 0") from error


def _agreed(report: "PruneReport", ages: "Ages", printer: Printer) -> bool:
    """Whether the person at the terminal wants it. Raises: UsageError where nobody can be asked."""
    from qwenctl.cli.terminal import confirmed, interactive

    if printer.as_json or not interactive():
        raise UsageError(
            f"{_summary(report.removed)} would be removed, and nobody can be asked",
            hint="`--force` removes them, `--dry-run` lists them",
        )
    printer.note(_rows(report.removed))
    return confirmed(f"remove all of this, {render_bytes(report.freed_bytes)}?")


def _text(report: "PruneReport") -> str:
    lines = [_rows(report.removed)] if report.removed else []
    verb = "would free" if report.dry_run else "freed"
    lines.append(f"{verb} {render_bytes(report.freed_bytes)}" if report.removed else "nothing to remove")
    return "\n".join(lines)


def _notes(report: "PruneReport") -> list[str]:
    """What stays, and the way to get at it."""
    lines = []
    for digest in report.unreadable:
        lines.append(
            f"warning: no blob goes while the manifest {digest.partition(':')[2][:12]} cannot be read\n"
            "hint: `qwenctl verify --repair` fetches it again"
        )
    young = [item for item in report.kept if item.kept == "too young"]
    busy = [item for item in report.kept if item.kept not in (None, "too young") and item.kind == "partial"]
    if busy:
        lines.append(f"kept {_summary(busy)}: downloads are at work on them")
    if young:
        lines.append(f"kept {_summary(young)} for now: `--older-than` takes younger ones")
    return lines


def _summary(items: "Sequence[Removable]") -> str:
    """`2 partial downloads, 1 registry upload (1.20 GiB)`."""
    counts: dict[str, int] = {}
    for item in items:
        counts[item.kind] = counts.get(item.kind, 0) + 1
    listed = ", ".join(counted(count, KINDS[kind]) for kind, count in counts.items())
    return f"{listed} ({render_bytes(sum(item.freed_bytes for item in items))})"


def _rows(items: "Sequence[Removable]") -> str:
    rows = [
        (KINDS[item.kind], _short(item), render_bytes(item.size_bytes), render_duration(item.age_seconds))
        for item in items
    ]
    return table(("WHAT", "DIGEST", "SIZE", "AGE"), rows)


def _short(item: "Removable") -> str:
    return item.digest.partition(":")[2][:12] if item.digest else item.name[:24]
