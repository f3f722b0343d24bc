"""Fit by name: a model, and its variants, from the store, the built-in registry or its registry's headers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import msgspec

from qwenctl.errors import QwenctlError, ReferenceUnknown
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import find
from qwenctl.flows.fit import Machine, Subject, fit, subject_of_model
from qwenctl.flows.fit_report import CardFigures, Fit
from qwenctl.flows.names import is_id, near_names, parse_name, unknown
from qwenctl.model.card import Card, Variant
from qwenctl.model.host import Host
from qwenctl.model.memory.plan import RANK, Wishes
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source
from qwenctl.store.store import Store

OpenSource = Callable[[Reference], AbstractContextManager[Source]]
"""Opens the place that a reference is pulled from; closed with the block."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The verdict on what was asked for, and those on the variants.

    `problems` are the names of variants that could not be had, each with the reason.
    """

    selected: Fit
    variants: tuple[Fit, ...]
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges models on one machine for the same wishes; with `longest` for their longest context."""

    machine: Machine
    wishes: Wishes
    longest: bool = False

    def __call__(self, subject: Subject, variant: Variant | None = None) -> Fit:
        """The verdict, with the card's figures beside it."""
        wishes = self.wishes
        if self.longest:
            trained = subject.shape.context_length
            wishes = msgspec.structs.replace(wishes, context_tokens=trained)
        verdict = fit(subject, self.machine, wishes)
        if variant is None:
            return verdict
        return msgspec.structs.replace(
            verdict, card=CardFigures(vram_bytes=variant.vram_bytes, size_bytes=variant.size_bytes)
        )


def fit_model(
    text: str,
    judge: Judge,
    store: Store,
    catalog: Catalog,
    registry: str,
    open_source: OpenSource,
    *,
    all_variants: bool = False,
) -> Asked:
    """The verdict on the model that `text` names, and with `all_variants` on every variant of its family.

    A model in the store is read there, any other at its registry, by its header alone. Raises:
    InvalidReference; ReferenceUnknown with near names; what the registry raises for the model asked for.
    """
    if is_id(text):
        found = find(text, store, catalog, registry)
        verdict = judge(subject_of_model(found.name, found.root, store))
        return Asked(verdict, (verdict,))
    reference = parse_name(text, catalog, registry)
    card = catalog.card_of(reference)
    selected = _judged(reference, card, judge, store, catalog, open_source)
    if not all_variants:
        return Asked(selected, (selected,))
    verdicts, problems = [], []
    for other in _family(reference, card, store):
        if _same(other, reference, card):
            verdicts.append(selected)
            continue
        try:
            verdicts.append(_judged(other, card, judge, store, catalog, open_source))
        except QwenctlError as error:
            problems.append((other.familiar(), error.message))
    return Asked(selected, tuple(verdicts), tuple(problems))


class Problem(msgspec.Struct, frozen=True):
    """A variant whose header could not be read, and why."""

    name: str
    message: str


class FitReport(Fit, frozen=True, kw_only=True):
    """The data of `fit --json`: the verdict on the model that was asked for, the machine, and its variants.

    `variants` are the verdicts on all of them with `--all`, else on the one. `problems` are those that could
    not be had.
    """

    machine: Host
    variants: list[Fit]
    problems: list[Problem]


def report_on(asked: Asked, host: Host) -> FitReport:
    """The verdicts for a program."""
    return FitReport(
        **{name: getattr(asked.selected, name) for name in Fit.__struct_fields__},
        machine=host,
        variants=list(asked.variants),
        problems=[Problem(name, message) for name, message in asked.problems],
    )


def best_variant(verdicts: tuple[Fit, ...]) -> Fit | None:
    """The largest variant of those with the best verdict, by parameters, then bytes; None when none fits."""
    fitting = [item for item in verdicts if item.verdict in RANK and item.fits]
    if not fitting:
        return None
    best = max(min(RANK[item.verdict], RANK["gpus"]) for item in fitting if item.verdict != "unknown")
    ranked = [item for item in fitting if item.verdict != "unknown" and RANK[item.verdict] >= best]
    return max(ranked, key=lambda item: (item.parameters, item.file_bytes))


def _judged(
    reference: Reference,
    card: Card | None,
    judge: Judge,
    store: Store,
    catalog: Catalog,
    open_source: OpenSource,
) -> Fit:
    variant = card.variant(reference.tag) if card and reference.tag else None
    name = reference.familiar()
    stored = _stored(reference, store)
    if stored is not None:
        return judge(subject_of_model(name, stored, store), variant)
    try:
        with open_source(reference) as source:
            return judge(subject_of_model(name, source.resolve(reference), source), variant)
    except ReferenceUnknown as error:
        near = near_names(reference, catalog.known(), store)
        raise (unknown(reference, near, "here or at its registry") if near else error) from error


def _stored(reference: Reference, store: Store) -> Descriptor | None:
    try:
        return store.resolve(reference)
    except ReferenceUnknown:
        return None


def _family(reference: Reference, card: Card | None, store: Store) -> Iterator[Reference]:
    """The card's variants, each once; then what else of the repository is in the store."""
    tags = [variant.tag for variant in card.variants] if card else []
    known = set(card.tags) if card else set()
    here = [
        tagged.tag
        for tagged, _ in store.tags()
        if (tagged.registry, tagged.repository) == (reference.registry, reference.repository)
    ]
    further = [tag for tag in here if tag and tag not in known]
    if reference.tag and reference.tag not in (*known, *further):
        further.append(reference.tag)
    for tag in (*tags, *further):
        yield Reference(reference.registry, reference.repository, tag)


def _same(other: Reference, reference: Reference, card: Card | None) -> bool:
    if reference.pinned or other.tag == reference.tag:
        return other.tag == reference.tag
    variant = card.variant(reference.tag) if card and reference.tag else None
    return variant is not None and other.tag in variant.tags
