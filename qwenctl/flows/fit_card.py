"""Fit by the model card: a variant that is not here, judged by the numbers on its card, without a network.

variant → (file in the store, or in the built-in registry) header ┐
        → (else) the card's numbers, drawn as a header            ├→ plan → VariantView
machine ─────────────────────────────────────────────────────────┘
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import msgspec

from qwenctl.errors import QwenctlError, ReferenceUnknown
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.fit import Machine, Subject, planner_for, subject_of_model
from qwenctl.flows.show import Shown
from qwenctl.model.card import Card, Variant
from qwenctl.model.drawn import draw
from qwenctl.model.host import Host
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.hyperparameters import Unknown
from qwenctl.model.memory.plan import Place, Shortage, Verdict, Wishes
from qwenctl.model.mix import padded_bytes
from qwenctl.model.shape import Shape
from qwenctl.store.store import Store

FROM_CARD = "card"
"""How a header was had that is drawn from the numbers on a model card."""


class VariantFit(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a variant: what a load with nothing asked for would do.

    It is made from the header of the `file`, where that is here, else from the numbers on the `card`.
    `places` are bytes on each GPU in use, and last in RAM; of a plan that does not fit, of the last that was
    tried. `exact`: to the byte.
    """

    verdict: Verdict
    source: Literal["file", "card"]
    configuration: Configuration
    gpu_layers: int
    layers: int
    places: list[Place]
    shortage: Shortage | None
    exact: bool


class VariantView(msgspec.Struct, frozen=True, kw_only=True):
    """A variant of a card: its `name` and all its tags, whether it is `here`, in the store.

    `fit` is null where the card has no numbers for it, or nobody can tell its memory.
    """

    name: str
    tags: list[str]
    here: bool
    fit: VariantFit | None


def subject_of_card(card: Card, variant: Variant, name: str) -> Subject | None:
    """A variant by the numbers on its card, its size that of the tensors; None where it has none."""
    shape = draw(card, variant)
    if shape is None:
        return None
    size = padded_bytes(shape.tensors)
    return Subject(name, shape, size, variant.quantization, header_method=FROM_CARD)


def judge_variants(shown: Shown, store: Store, catalog: Catalog, machine: Machine) -> list[VariantView]:
    """The variants of the card that is shown, each with its verdict on `machine`; none without a card.

    Everything is computed: llama.cpp is not asked.
    """
    return [*_views(shown, store, catalog, replace(machine, method="computed"))]


def _views(shown: Shown, store: Store, catalog: Catalog, machine: Machine) -> Iterator[VariantView]:
    present = {model.reference for model in shown.stored}
    for variant in shown.card.variants if shown.card else ():
        assert shown.card is not None
        subject = _subject_of_file(shown, variant, store, catalog)
        drawn = None if subject else subject_of_card(shown.card, variant, variant.tag)
        fit = _fit(subject, "file", machine) if subject else _fit(drawn, "card", machine) if drawn else None
        yield VariantView(
            name=f"{shown.card.name}:{variant.tag}",
            tags=[*variant.tags],
            here=any(str(shown.reference(tag)) in present for tag in variant.tags),
            fit=fit,
        )


def _subject_of_file(shown: Shown, variant: Variant, store: Store, catalog: Catalog) -> Subject | None:
    """The variant by its header, if that is on this machine and whole."""
    assert shown.card is not None
    for tag in variant.tags:
        reference = shown.reference(tag)
        for source in (store, catalog.store) if shown.card.built_in else (store,):
            try:
                return subject_of_model(variant.tag, source.resolve(reference), source)
            except ReferenceUnknown:
                continue
            except QwenctlError:  # damaged, or no GGUF: `verify` and `run` say so
                return None
    return None


def _wishes(shape: Shape, host: Host) -> Wishes:
    """None; or, where the weights alone are more than there is room for, the attempt that a plan ends with.

    The others, layer by layer, would cost seconds and come to the same.
    """
    budget = host.ram.budget_bytes + sum(gpu.budget_bytes for gpu in host.gpus)
    return Wishes(gpu_layers=0) if shape.weights_bytes > budget else Wishes()


def _fit(subject: Subject, source: Literal["file", "card"], machine: Machine) -> VariantFit | None:
    try:
        plan = planner_for(subject.shape, machine).plan(_wishes(subject.shape, machine.host))
    except Unknown:
        return None
    return VariantFit(
        verdict=plan.verdict,
        source=source,
        configuration=plan.configuration,
        gpu_layers=plan.estimate.gpu_layers,
        layers=plan.estimate.layers,
        places=[*plan.places],
        shortage=plan.shortage,
        exact=plan.estimate.exact,
    )
