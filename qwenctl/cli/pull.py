"""`qwenctl pull`: bring a model into the store."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import InsecureRegistry, Json, Quiet
from qwenctl.cli.output import Printer
from qwenctl.errors import Interrupted, MemoryShort, UsageError
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.fit_model import Asked
    from qwenctl.flows.fit_report import Fit
    from qwenctl.flows.pull import Pulled
    from qwenctl.oci.descriptor import Descriptor
    from qwenctl.oci.digest import Digest
    from qwenctl.oci.reference import Reference
    from qwenctl.oci.target import Source
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store


class PullReport(msgspec.Struct, frozen=True):
    """The data of `pull --json`. `moved_bytes` is what really came over.

    `fit` is the verdict from before the download; null when nothing was downloaded, or nothing checked.
    """

    name: str
    reference: str
    id: str
    up_to_date: bool
    moved_bytes: int
    blobs_moved: int
    blobs_present: int
    fit: "Fit | None" = None


@dataclass(frozen=True, slots=True)
class Checks:
    """What is asked before a download: nothing, the verdict, or the verdict without its consequences.

    `quiet` says nothing of a model that fits. `expected` is what the name has to be.
    """

    enabled: bool = True
    force: bool = False
    quiet: bool = False
    expected: "Digest | None" = None


def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model: NAME[:TAG] or NAME@sha256:…")],
    fit: Annotated[bool, typer.Option("--fit", help="The largest variant that fits this machine.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Download what does not fit, too.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not look at memory before.")] = False,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="DIGEST", help="Fail when the name is another sha256:….")
    ] = None,
    insecure_registry: InsecureRegistry = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Download a model, verified; continues an interrupted download.

    Says before whether it fits this machine. Example: qwenctl pull qwen2.5:7B-Q4_K_M
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.spelling import parse_wanted
    from qwenctl.oci.digest import Digest

    if fit and no_check:
        raise UsageError("`--fit` is a check, `--no-check` is none", hint="leave one of them out")
    expected = None if expect is None else Digest.parse(expect)
    settings, catalog = load_settings(insecure_registry), open_catalog()
    store = open_store(settings)
    printer = Printer("pull", json, quiet)
    reference = (
        _best_fitting(model, settings, catalog, store, printer)
        if fit
        else parse_wanted(model, catalog, settings.registry)
    )
    checks = Checks(enabled=not no_check, force=force, expected=expected)
    pulled, verdict = pull_with_progress(reference, settings, catalog, store, printer, checks)
    report = PullReport(
        pulled.reference.familiar(),
        str(pulled.reference),
        str(pulled.root.digest),
        pulled.up_to_date,
        pulled.moved_bytes,
        pulled.blobs_moved,
        pulled.blobs_present,
        verdict,
    )
    printer.result(report, report.id if quiet else _sentence(report))


def pull_with_progress(
    reference: "Reference",
    settings: "Settings",
    catalog: "Catalog",
    store: "Store",
    printer: Printer,
    checks: Checks,
) -> "tuple[Pulled, Fit | None]":
    """Pull, with a display that fits the streams, after a look at whether the model fits this machine.

    A name that nobody knows gets near names as a hint. Raises: MemoryShort when the person declines.
    """
    from qwenctl.cli.progress import watch
    from qwenctl.cli.wiring import open_source
    from qwenctl.flows.pull import check_expected, is_current, pinned_here
    from qwenctl.flows.pull import pull as pull_model
    from qwenctl.flows.spelling import resolve

    if (pulled := pinned_here(reference, store)) is not None:
        check_expected(reference, pulled.root, checks.expected)
        return pulled, None
    try:
        with open_source(reference, settings, catalog) as source:
            reference, root = resolve(reference, source, catalog, store)
            check_expected(reference, root, checks.expected)
            verdict = None
            if checks.enabled and not is_current(reference, root, store):
                verdict = _check(reference, root, source, settings, printer, checks)
            with watch(printer) as observe:
                return pull_model(reference, source, store, observe, root), verdict
    except KeyboardInterrupt as error:
        raise Interrupted(
            "stopped; what was downloaded is kept",
            hint=f"`qwenctl pull {reference.familiar()}` goes on from there",
        ) from error


def _check(
    reference: "Reference",
    root: "Descriptor",
    source: "Source",
    settings: "Settings",
    printer: Printer,
    checks: Checks,
) -> "Fit | None":
    """The verdict by the model's header, told; None for a model that is not in GGUF."""
    from qwenctl.cli.memory import open_machine
    from qwenctl.flows.fit import fit_before

    verdict = fit_before(reference, root, source, open_machine(settings))
    if verdict is None:
        return None
    if not checks.quiet or not verdict.fits:
        printer.note(f"{verdict.name}{'' if verdict.fits else ' does not fit'}: {verdict.advice}")
    if not verdict.fits and not checks.force:
        _ask(verdict, printer)
    return verdict


def _ask(verdict: "Fit", printer: Printer) -> None:
    """Whether to download what does not fit; without a person it is a warning."""
    from qwenctl.cli.terminal import confirmed, interactive

    if printer.as_json or not interactive():
        printer.note(f"warning: {verdict.name} is downloaded all the same; `--fit` takes a variant that fits")
        return
    if not confirmed(f"download {render_bytes(verdict.file_bytes)} all the same?"):
        raise MemoryShort(
            f"`{verdict.name}` does not fit and was not downloaded",
            hint=f"`qwenctl pull {verdict.name} --fit` takes a variant that fits, `--force` does not ask",
        )


def _best_fitting(
    model: str, settings: "Settings", catalog: "Catalog", store: "Store", printer: Printer
) -> "Reference":
    """The largest variant of the model's family that fits. Raises: MemoryShort when none does."""
    from qwenctl.cli.memory import open_machine
    from qwenctl.cli.wiring import open_source
    from qwenctl.flows.fit_model import Judge, best_variant, fit_model
    from qwenctl.flows.names import parse_name
    from qwenctl.model.memory.plan import Wishes

    open_at = partial(open_source, settings=settings, catalog=catalog)
    judge = Judge(open_machine(settings), Wishes())
    asked = fit_model(model, judge, store, catalog, settings.registry, open_at, all_variants=True)
    best = best_variant(asked.variants)
    if best is None:
        raise MemoryShort(
            f"no variant of `{model}` fits this machine; {_closest(asked)}",
            hint=f"`qwenctl fit {model} --all` shows them",
        )
    printer.note(f"{best.name} is the largest variant that fits")
    return parse_name(best.name, catalog, settings.registry)


def _closest(asked: "Asked") -> str:
    """What the smallest variant lacks; where all are unknown, why the one that was asked for is."""
    from qwenctl.model.memory.words import shortage_text

    short = [(item.file_bytes, item.name, item.shortage) for item in asked.variants if item.shortage]
    if not short:
        return asked.selected.advice
    _, name, shortage = min(short, key=lambda row: row[0])
    return f"the smallest, {shortage_text(name, shortage)}"


def _sentence(report: PullReport) -> str:
    if report.up_to_date:
        return f"{report.name} is up to date"
    return f"pulled {report.name} ({render_bytes(report.moved_bytes)} downloaded)"
