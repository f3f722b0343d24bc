"""`qwenctl list`: models in the store."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer, ago, complain, table
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.views import ModelView


class Listing(msgspec.Struct, frozen=True):
    """The data of `list --json`; the entries are `flows.views.ModelView`."""

    models: list["ModelView"]


def list_models(
    only: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this model, all its tags without one.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the models in the store.

    Example: qwenctl list --json | jq -r '.data.models[].name'
    """
    from qwenctl.cli.wiring import load_settings, open_store
    from qwenctl.flows.views import list_models as list_views

    models = list_views(open_store(load_settings()))
    if only:
        models = [model for model in models if _matches(model, only)]
    text = "\n".join(_short_id(model) for model in models) if quiet else _table(models)
    Printer("list", json).result(Listing(models), text)
    if not (json or quiet or models):
        complain("hint: the store is empty; try `qwenctl run guide`")


def _matches(model: "ModelView", wanted: str) -> bool:
    name = wanted.casefold()
    return model.name.casefold() == name or model.name.casefold().partition(":")[0] == name


def _short_id(model: "ModelView") -> str:
    return model.id.partition(":")[2][:12]


def _short_name(model: "ModelView") -> str:
    """The name for a table; what is pinned shows the first digits of its digest."""
    name, at, digest = model.name.partition("@")
    return f"{name}{at}{digest[:19]}"


def _table(models: "list[ModelView]") -> str:
    headers = ("NAME", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "ID", "CREATED", "CONTEXT", "SIZE")
    return table(headers, [_row(model) for model in models])


def _row(model: "ModelView") -> tuple[str, ...]:
    created = datetime.fromisoformat(model.created) if model.created else None
    return (
        _short_name(model),
        model.parameters or "-",
        model.quantization or "-",
        model.architecture or "-",
        _short_id(model),
        "damaged" if model.problem else ago(created),
        str(model.context_length) if model.context_length else "-",
        render_bytes(model.size_bytes) if model.size_bytes else "-",
    )
