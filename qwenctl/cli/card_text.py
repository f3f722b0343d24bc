"""What `qwenctl show` prints for people: the card, its variants with our verdict, what is in the store."""

from collections.abc import Iterable
from textwrap import fill
from typing import TYPE_CHECKING, Final

from qwenctl.cli.fit_text import machine_text
from qwenctl.cli.output import narrowed
from qwenctl.model.memory.words import tokens_text
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.cli.show import ShowReport
    from qwenctl.flows.fit_card import VariantFit, VariantView
    from qwenctl.flows.views import ModelView
    from qwenctl.model.card import Card, Variant
    from qwenctl.model.host import Host

_PROSE: Final = 80  # columns; longer lines are hard to read
_LEAST: Final = 24  # columns; a narrower terminal wraps by itself
_VARIANTS: Final = (
    "",
    "VARIANT",
    "ALSO",
    "PARAMETERS",
    "QUANTIZATION",
    "CONTEXT",
    "SIZE",
    "CARD VRAM",
    "FITS",
    "NEEDS",
    "AT",
    "HERE",
)
_SPARED: Final = (
    "QUANTIZATION",
    "PARAMETERS",
    "ALSO",
    "HERE",
    "CARD VRAM",
    "CONTEXT",
    "SIZE",
    "AT",
    "NEEDS",
)
"""Columns of the variants that a narrow terminal goes without, the first first."""
_STORED: Final = ("IN THE STORE", "PARAMETERS", "QUANTIZATION", "ARCHITECTURE", "CONTEXT", "SIZE", "ID")
_SPARED_STORED: Final = ("ARCHITECTURE", "CONTEXT", "PARAMETERS", "QUANTIZATION", "SIZE")
_LEGEND: Final = (
    "FITS, NEEDS: as it would be loaded now with nothing asked for, AT so many requests x the context of each"
)


def render(report: "ShowReport", configured: Iterable[str], columns: int | None) -> str:
    """The whole page, in `columns`; None is a pipe, where nothing is left out. `configured` are sentences."""
    width = max(_LEAST, min(columns or _PROSE, _PROSE))
    parts = _card(report, width, columns) if report.card else []
    if report.stored:
        rows = [_stored(model) for model in report.stored]
        parts.append(narrowed(_STORED, rows, _SPARED_STORED, columns))
    parts += ["\n".join(_wrapped(line, width, "  ") for line in configured)]
    return "\n\n".join(part for part in parts if part)


def _card(report: "ShowReport", width: int, columns: int | None) -> list[str]:
    card = report.card
    assert card is not None
    facts = [
        ("Provider", card.provider),
        ("Architecture", card.architecture),
        ("Cutoff", card.cutoff or ""),
        ("Languages", ", ".join(card.languages)),
        ("Tool calling", "yes" if card.tool_calling else "no"),
        ("Input", ", ".join(card.input_modalities)),
        ("Output", ", ".join(card.output_modalities)),
        ("Licence", card.license),
    ]
    return [
        _wrapped(card.title, width),
        _wrapped(card.description, width),
        _facts(facts, width),
        _variants(card, report, columns),
        _verdicts(report, width),
        *([_wrapped(f"Note: {card.note}", width)] if card.note else []),
        *_lists(card, width, columns),
    ]


def _facts(pairs: Iterable[tuple[str, str]], width: int) -> str:
    """`Name:  value` lines with the values in one column, further lines of a value too."""
    shown = [(f"{name}:", value) for name, value in pairs if value]
    edge = max(len(name) for name, _ in shown) + 2
    return "\n".join(_wrapped(f"{name.ljust(edge)}{value}", width, " " * edge) for name, value in shown)


def _variants(card: "Card", report: "ShowReport", columns: int | None) -> str:
    views = zip(card.variants, report.variants, strict=True)
    rows = [_variant(card, variant, view, report.selected) for variant, view in views]
    return narrowed(_VARIANTS, rows, _SPARED, columns)


def _variant(card: "Card", variant: "Variant", view: "VariantView", selected: str | None) -> tuple[str, ...]:
    return (
        "*" if selected in variant.tags else "",
        view.name,
        " ".join(variant.also),
        variant.parameters,
        variant.quantization or "-",
        tokens_text(variant.context_length),
        render_bytes(variant.size_bytes) if variant.size_bytes else "-",
        render_bytes(variant.vram_bytes) if variant.vram_bytes else "-",
        *_fit(view.fit),
        "yes" if view.here else "",
    )


def _fit(fit: "VariantFit | None") -> tuple[str, str, str]:
    """Whether it fits, what it needs where it would be, and for how many tokens."""
    if fit is None:
        return "?", "-", "-"
    *gpus, ram = fit.places
    words = {
        "gpu": "yes, GPU",
        "gpus": f"yes, {len(gpus)} GPUs",
        "partial": "partly",
        "cpu": "yes, RAM",
        "no": "no",
    }[fit.verdict]
    needed = sum(gpu.needed_bytes for gpu in gpus) or ram.needed_bytes
    if fit.shortage is not None:
        needed = fit.shortage.needed_bytes
    at = f"{fit.configuration.slots} x {tokens_text(fit.configuration.context_tokens)}"
    return words, render_bytes(needed), at


def _verdicts(report: "ShowReport", width: int) -> str:
    """On which machine, what the columns mean, where there is more."""
    assert report.card is not None and report.machine is not None
    lines = [_machine(report.machine, width), _wrapped(_LEGEND, width, "  ")]
    if any(view.fit is None for view in report.variants):
        lines.append(_wrapped("?: the card has no numbers for it", width, "  "))
    lines.append(_wrapped(f"`qwenctl fit {report.card.name} --all` reads the files themselves", width, "  "))
    return "\n".join(lines)


def _machine(host: "Host", width: int) -> str:
    return "\n".join(_wrapped(line, width, "  ") for line in machine_text(host).splitlines())


def _lists(card: "Card", width: int, columns: int | None) -> list[str]:
    sections = []
    if card.intended_uses:
        sections.append(
            _bullets("Intended uses", [f"{u.title}: {u.text}" for u in card.intended_uses], width)
        )
    if card.considerations:
        sections.append(_bullets("Considerations", card.considerations, width))
    if card.benchmarks:
        rows = [(f"  {b.category}", b.name, f"{b.score:g}") for b in card.benchmarks]
        subject = f" of {card.benchmark_subject}" if card.benchmark_subject else ""
        heading = _wrapped(f"Benchmarks{subject}, by its maker", width)
        results = narrowed(("  AREA", "BENCHMARK", "SCORE"), rows, ("  AREA",), columns)
        sections.append(f"{heading}\n{results}")
    if card.links:
        sections.append(_bullets("Links", [f"{link.title}: {link.url}" for link in card.links], width))
    return sections


def _bullets(heading: str, items: Iterable[str], width: int) -> str:
    return "\n".join([heading, *(_wrapped(f"  {item}", width, "    ") for item in items)])


def _stored(model: "ModelView") -> tuple[str, ...]:
    return (
        model.name,
        model.parameters or "-",
        model.quantization or "-",
        model.architecture or "-",
        str(model.context_length or "-"),
        render_bytes(model.size_bytes),
        model.id[7:19],
    )


def _wrapped(text: str, width: int, further: str = "") -> str:
    """Lines of `width` at the most; an address is never broken."""
    return fill(
        text,
        width,
        subsequent_indent=further,
        drop_whitespace=True,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )
