"""`qwenctl pull`: bring a model into the store."""

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import Interrupted, ReferenceUnknown, Unreachable
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog
    from qwenctl.flows.pull import Pulled
    from qwenctl.oci.reference import Reference
    from qwenctl.settings import Settings
    from qwenctl.store.store import Store


class PullReport(msgspec.Struct, frozen=True):
    """The data of `pull --json`. `moved_bytes` is what really came over."""

    name: str
    reference: str
    id: str
    up_to_date: bool
    moved_bytes: int
    blobs_moved: int
    blobs_present: int


def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model: NAME[:TAG] or NAME@sha256:…")],
    json: Json = False,
) -> None:
    """Download a model, verified; continues an interrupted download.

    Example: qwenctl pull qwen2.5:7B-Q4_K_M
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.names import parse_name

    settings, catalog = load_settings(), open_catalog()
    store = open_store(settings)
    printer = Printer("pull", json)
    reference = parse_name(model, catalog, settings.registry)
    pulled = pull_with_progress(reference, settings, catalog, store, printer)
    report = PullReport(
        reference.familiar(),
        str(reference),
        str(pulled.root.digest),
        pulled.up_to_date,
        pulled.moved_bytes,
        pulled.blobs_moved,
        pulled.blobs_present,
    )
    printer.result(report, _sentence(report))


def pull_with_progress(
    reference: "Reference", settings: "Settings", catalog: "Catalog", store: "Store", printer: Printer
) -> "Pulled":
    """Pull, with a display that fits the streams. A name that nobody knows gets near names as a hint."""
    from qwenctl.cli.progress import watch
    from qwenctl.cli.wiring import open_source
    from qwenctl.flows.names import near_names, unknown
    from qwenctl.flows.pull import pull as pull_model
    from qwenctl.oci.reference import BUILT_IN, DOCKER_HUB

    try:
        with open_source(reference, settings, catalog) as source, watch(printer) as observe:
            return pull_model(reference, source, store, observe)
    except (ReferenceUnknown, Unreachable) as error:
        known = tuple(catalog.known()) if reference.registry in (BUILT_IN, DOCKER_HUB) else ()
        near = () if reference.familiar() in known else near_names(reference, known, store)
        if not near:
            raise
        question = unknown(reference, near, "").hint
        both = f"{error.hint}; {question}" if isinstance(error, Unreachable) and error.hint else question
        raise type(error)(error.message, hint=both) from error
    except KeyboardInterrupt as error:
        raise Interrupted(
            "interrupted; what was downloaded is kept",
            hint=f"`qwenctl pull {reference.familiar()}` goes on from there",
        ) from error


def _sentence(report: PullReport) -> str:
    if report.up_to_date:
        return f"{report.name} is up to date"
    return f"pulled {report.name} ({render_bytes(report.moved_bytes)} downloaded)"
