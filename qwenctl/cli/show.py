"""`qwenctl show`: the model card with our verdict on each variant, and what of the family is in the store."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from qwenctl.cli.options import Json, Model
from qwenctl.cli.output import Printer

if TYPE_CHECKING:
    from qwenctl.flows.fit_card import VariantView
    from qwenctl.flows.views import ModelView
    from qwenctl.model.card import Card
    from qwenctl.model.host import Host
    from qwenctl.settings import Settings


class ShowReport(msgspec.Struct, frozen=True):
    """The data of `show --json`: the card whole (null without one), the stored models, and what `configure`
    has set for each of them, by its name.

    `variants` are those of the card, each with the verdict on `machine`, which is null without a card.
    """

    card: "Card | None"
    stored: "list[ModelView]"
    selected: str | None
    configured: dict[str, dict[str, Any]] = {}
    machine: "Host | None" = None
    variants: "list[VariantView]" = []


def show(
    model: Model,
    host: Annotated[
        Path | None, typer.Option("--host", metavar="FILE", help="A machine profile instead of this machine.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a model's card, which of its variants fit, and what of it is in the store.

    Needs no network. Example: qwenctl show qwen2.5
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.show import show as show_model

    settings = load_settings()
    store, catalog = open_store(settings), open_catalog()
    shown = show_model(model, store, catalog, settings.registry)
    configured = _configured(shown.stored, settings)
    machine, variants = None, []
    if shown.card is not None:
        from qwenctl.cli.memory import open_machine
        from qwenctl.flows.fit_card import judge_variants

        opened = open_machine(settings, host)
        machine, variants = opened.host, judge_variants(shown, store, catalog, opened)
    report = ShowReport(shown.card, list(shown.stored), shown.selected, configured, machine, variants)
    Printer("show", json).result(report, "" if json else _text(report))


def _configured(models: "tuple[ModelView, ...]", settings: "Settings") -> dict[str, dict[str, Any]]:
    from qwenctl.runner.configured import Configurations

    known = Configurations(settings.state).all()
    here = {model.name: known[key] for model in models if (key := model.reference or model.id) in known}
    if not here:
        return {}
    from qwenctl.cli.configure_values import spelled

    return {name: spelled(configured) for name, configured in here.items()}


def _text(report: ShowReport) -> str:
    from shutil import get_terminal_size

    from qwenctl.cli.card_text import render
    from qwenctl.cli.configure_values import told

    configured = [f"{name} is configured: {told(values)}" for name, values in report.configured.items()]
    return render(report, configured, get_terminal_size().columns if sys.stdout.isatty() else None)
