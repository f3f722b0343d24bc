"""`qwenctl list`: models in the store."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Self

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer, ago, complain, encode, narrowed, terminal_columns, write_line
from qwenctl.errors import UsageError
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.views import ModelView


_SPARED: Final = ("ARCHITECTURE", "CONTEXT", "PARAMETERS", "CREATED", "ID", "QUANTIZATION")
"""Columns that a narrow terminal goes without, the first first."""


class Listing(msgspec.Struct, frozen=True):
    """The data of `list --json`; the entries are `flows.views.ModelView`."""

    models: list["ModelView"]


class OpenAiModel(msgspec.Struct, frozen=True):
    """A model as OpenAI's API lists it, under `/v1/models` and here."""

    id: str
    object: str
    created: int
    owned_by: str

    @classmethod
    def of(cls, model: "ModelView") -> Self:
        """The model that a view shows."""
        created = int(datetime.fromisoformat(model.created).timestamp()) if model.created else 0
        return cls(model.name, "model", created, "qwenctl")


class OpenAiModels(msgspec.Struct, frozen=True):
    """OpenAI's list of models."""

    object: str
    data: list[OpenAiModel]


def list_models(
    only: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Only this model, all its tags without one.")
    ] = None,
    openai: Annotated[bool, typer.Option("--openai", help="As OpenAI's list of models, in JSON.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """List the models in the store.

    Examples: qwenctl list · qwenctl list qwen2.5 · qwenctl list --json | jq -r '.data.models[].name'
    """
    from qwenctl.cli.wiring import load_settings, open_store
    from qwenctl.flows.views import list_models as list_views

    if openai and (json or quiet):
        raise UsageError("`--openai` is a form of its own", hint="leave out `--json` and `--quiet`")
    stored = list_views(open_store(load_settings()))
    models = [model for model in stored if not only or _matches(model, only)]
    if openai:
        write_line(encode(OpenAiModels("list", [OpenAiModel.of(model) for model in models])))
        return
    text = "\n".join(_short_id(model) for model in models) if quiet else _table(models)
    Printer("list", json).result(Listing(models), text)
    if not (json or quiet or models):
        complain(f"hint: {_nothing(only, stored)}")


def _nothing(only: str | None, stored: "list[ModelView]") -> str:
    """What to do about an empty list."""
    if not stored:
        return "the store is empty; try `qwenctl run guide`"
    from qwenctl.cli.suggest import did_you_mean

    names = [model.name for model in stored]
    near = did_you_mean(only or "", dict.fromkeys([*(name.partition(":")[0] for name in names), *names]))
    return f"no model here is called `{only}`; {near or '`qwenctl list` has those there are'}"


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
    return narrowed(headers, [_row(model) for model in models], _SPARED, terminal_columns())


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
