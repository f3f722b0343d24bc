"""`qwenctl verify`: read the store again, say what is damaged, fetch it again."""

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import typer

from qwenctl.cli.options import InsecureRegistry, Json
from qwenctl.cli.output import Printer, counted, table
from qwenctl.errors import StoreDamaged, UsageError
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.copy import CopyEvent, Observer
    from qwenctl.flows.verify import DamagedBlob, VerifyReport
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store

_NAMES: Final = 3  # models that a message names


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL…]", help="Models to check, by name or id; all without one."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All models, the index, and what nothing refers to (the default).")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch what is damaged again.")] = False,
    insecure_registry: InsecureRegistry = None,
    json: Json = False,
) -> None:
    """Read every blob again and say what is damaged or missing.

    What is damaged is moved aside at once, so that it is neither run nor served; `--repair`, or the next
    pull, fetches it again, and nothing else. Example: qwenctl verify --repair
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store

    if models and everything:
        raise UsageError("`--all` is all models", hint="leave out `--all` or the names")
    settings, catalog = load_settings(insecure_registry), open_catalog()
    printer = Printer("verify", json)
    report = _verify(models or [], open_store(settings), settings, catalog, printer, repair)
    if not json:
        printer.result(report, _text(report))
    for stray in report.strays:
        printer.note(f"warning: `{stray}` is no blob and was not checked")
    if not report.is_sound:
        raise StoreDamaged(_message(report), hint=_hint(report, models or [], repair), report=report)
    if json:
        printer.result(report)


def _verify(
    names: list[str],
    store: "Store",
    settings: "Settings",
    catalog: "Catalog",
    printer: Printer,
    repair: bool,
) -> "VerifyReport":
    from qwenctl.cli.check_progress import watch_check
    from qwenctl.cli.wiring import open_source
    from qwenctl.flows.find import find
    from qwenctl.flows.models import same_models
    from qwenctl.flows.repair import Repairer
    from qwenctl.flows.verify import verify, verify_all

    with ExitStack() as stack:
        repairer = None
        if repair:
            open_at = partial(open_source, settings=settings, catalog=catalog)
            repairer = stack.enter_context(Repairer(store, open_at, _watch_later(printer, stack)))
        with watch_check(printer) as observe:
            if not names:
                return verify_all(store, observe, repairer)
            founds = [find(name, store, catalog, settings.registry) for name in names]
            return verify(store, same_models(store, founds), observe, repairer)


def _watch_later(printer: Printer, stack: ExitStack) -> "Observer":
    """A display of what is fetched, which begins with the first blob: the check's own comes before."""
    shown: list[Observer] = []

    def observe(event: "CopyEvent") -> None:
        from qwenctl.cli.progress import watch

        if not shown:
            shown.append(stack.enter_context(watch(printer)))
        shown[0](event)

    return observe


def _text(report: "VerifyReport") -> str:
    """What was looked at, and a row for everything that is or was wrong."""
    loose = f", {report.unreferenced_blobs} of them unreferenced" if report.unreferenced_blobs else ""
    looked_at = f"{counted(report.blobs, 'blob')} of {counted(report.models, 'model')}{loose}"
    lines = [f"checked {looked_at}: {render_bytes(report.size_bytes)} ok"]
    if report.damaged:
        lines += ["", table(("STATE", "DIGEST", "SIZE", "OUTCOME", "NEEDED BY"), map(_row, report.damaged))]
    for fault in report.faults:
        lines += ["", f"{fault.where}: {fault.problem}", *(f"  needed by {name}" for name in fault.models)]
    return "\n".join(lines)


def _row(blob: "DamagedBlob") -> tuple[str, ...]:
    digest = blob.digest.partition(":")[2][:12] + (" manifest" if blob.manifest else "")
    size = "-" if blob.size is None else render_bytes(blob.size)
    return blob.state, digest, size, _outcome(blob), ", ".join(blob.models) or "nothing"


def _outcome(blob: "DamagedBlob") -> str:
    if blob.repaired:
        return "repaired" if blob.models else "moved aside"
    if blob.problem:
        return f"not repaired: {blob.problem}"
    return "moved aside" if blob.moved_to else blob.detail or "absent"


def _message(report: "VerifyReport") -> str:
    parts = []
    if report.wrong:
        parts.append(f"{len(report.wrong)} of {counted(report.blobs, 'blob')} damaged or missing")
    if report.faults:
        parts.append(f"{counted(len(report.faults), 'document')} cannot be read")
    affected = {name for blob in report.wrong for name in blob.models}
    affected |= {name for fault in report.faults for name in fault.models}
    return " and ".join(parts) + _affected(sorted(affected))


def _affected(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(f"`{name}`" for name in names[:_NAMES])
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return f", needed by {shown}{more}"


def _hint(report: "VerifyReport", names: list[str], repair: bool) -> str:
    if repair:
        return "the reasons are listed; pull or package these models again, or remove them"
    if not report.wrong:
        return "pull or package these models again, or remove them"
    return f"`{' '.join(['qwenctl verify', *names, '--repair'])}` fetches them again, and so does a pull"
