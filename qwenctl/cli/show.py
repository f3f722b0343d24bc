"""`qwenctl show`: the model card, and what of the family is in the store."""

from typing import TYPE_CHECKING

import msgspec

from qwenctl.cli.options import Json, Model
from qwenctl.cli.output import Printer, fields, table
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.show import Shown
    from qwenctl.flows.views import ModelView
    from qwenctl.model.card import Card


class ShowReport(msgspec.Struct, frozen=True):
    """The data of `show --json`: the card whole (null without one), and the stored models."""

    card: "Card | None"
    stored: "list[ModelView]"
    selected: str | None


def show(model: Model, json: Json = False) -> None:
    """Show a model's card with its variants, and what of it is in the store.

    Example: qwenctl show qwen2.5
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.show import show as show_model

    settings = load_settings()
    shown = show_model(model, open_store(settings), open_catalog(), settings.registry)
    report = ShowReport(shown.card, list(shown.stored), shown.selected)
    Printer("show", json).result(report, _text(shown))


def _text(shown: "Shown") -> str:
    parts = [_card_text(shown.card, shown) if shown.card else "", _stored_text(shown.stored)]
    return "\n\n".join(part for part in parts if part)


def _card_text(card: "Card", shown: "Shown") -> str:
    from textwrap import fill

    facts = fields(
        [
            ("Provider", card.provider),
            ("Architecture", card.architecture),
            ("Cutoff", card.cutoff or ""),
            ("Languages", ", ".join(card.languages)),
            ("Tool calling", "yes" if card.tool_calling else "no"),
            ("Input", ", ".join(card.input_modalities)),
            ("Output", ", ".join(card.output_modalities)),
            ("Licence", card.license),
        ]
    )
    sections = [card.title, fill(card.description, 78), facts, _variants(card, shown)]
    sections += [f"Note: {fill(card.note, 72)}"] if card.note else []
    sections += _lists(card)
    return "\n\n".join(sections)


def _variants(card: "Card", shown: "Shown") -> str:
    present = {model.reference for model in shown.stored}
    rows = []
    for variant in card.variants:
        names = [f"{card.name}:{tag}" for tag in variant.tags]
        here = any(str(shown.reference(tag)) in present for tag in variant.tags)
        rows.append(
            (
                "*" if shown.selected in variant.tags else "",
                " ".join(names),
                variant.parameters,
                variant.quantization or "-",
                str(variant.context_length),
                variant.vram or "-",
                variant.size or "-",
                "yes" if here else "",
            )
        )
    headers = ("", "VARIANT", "PARAMETERS", "QUANTIZATION", "CONTEXT", "VRAM", "SIZE", "HERE")
    return table(headers, rows)


def _lists(card: "Card") -> list[str]:
    sections = []
    if card.intended_uses:
        sections.append("Intended uses\n" + "\n".join(f"  {u.title}: {u.text}" for u in card.intended_uses))
    if card.considerations:
        sections.append("Considerations\n" + "\n".join(f"  {line}" for line in card.considerations))
    if card.benchmarks:
        rows = [(f"  {b.category}", b.name, f"{b.score:g}") for b in card.benchmarks]
        subject = f" of {card.benchmark_subject}" if card.benchmark_subject else ""
        sections.append(
            f"Benchmarks{subject}, by its maker\n" + table(("  AREA", "BENCHMARK", "SCORE"), rows)
        )
    if card.links:
        sections.append("Links\n" + "\n".join(f"  {link.title}: {link.url}" for link in card.links))
    return sections


def _stored_text(models: "tuple[ModelView, ...]") -> str:
    if not models:
        return ""
    rows = [
        (
            model.name,
            model.parameters or "-",
            model.quantization or "-",
            model.architecture or "-",
            str(model.context_length or "-"),
            render_bytes(model.size_bytes),
            model.id[7:19],
        )
        for model in models
    ]
    headers = ("IN THE STORE", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "CONTEXT", "SIZE", "ID")
    return table(headers, rows)
