"""Fit by name: a model, and its variants, from the store, the built-in registry or its registry's headers."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Final

import msgspec

from qwenctl.errors import QwenctlError, ReferenceUnknown, Unreachable
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import find
from qwenctl.flows.fit import Machine, Subject, fit, subject_of_model
from qwenctl.flows.fit_card import subject_of_card
from qwenctl.flows.fit_report import CardFigures, Fit
from qwenctl.flows.names import is_id
from qwenctl.flows.spelling import parse_wanted, resolve, spelled, stored_tags
from qwenctl.model.card import Card, Variant
from qwenctl.model.host import Host
from qwenctl.model.memory.configuration import CONTEXT_LIMIT
from qwenctl.model.memory.plan import RANK, Wishes
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source
from qwenctl.store.store import Store

OpenSource = Callable[[Reference], AbstractContextManager[Source]]
"""Opens the place that a reference is pulled from; closed with the block."""

BY_CARD: Final = "by the numbers on the model card, not by the file"
"""What a verdict notes that was made without the header."""

TAG_LIMIT: Final = 50
"""Tags of a registry that are looked at, where no card says which variants there are."""


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
            trained = min(subject.shape.context_length or 0, CONTEXT_LIMIT)
            wishes = msgspec.structs.replace(wishes, context_tokens=trained or None)
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

    A model in the store is read there, any other at its registry, by its header alone; where that cannot be
    reached, the numbers on its card serve. Raises: InvalidReference; ReferenceUnknown with near names; what
    the registry raises for the model asked for.
    """
    if is_id(text):
        found = find(text, store, catalog, registry)
        verdict = judge(subject_of_model(found.name, found.root, store))
        return Asked(verdict, (verdict,))
    reference = parse_wanted(text, catalog, registry)
    reference = spelled(reference, stored_tags(reference, store)) or reference
    with ExitStack() as opened:
        source = cache(lambda: opened.enter_context(open_source(reference)))
        family = _Family(reference, catalog.card_of(reference), judge, store, catalog, source)
        selected = family.judged(reference)
        return family.all(selected) if all_variants else Asked(selected, (selected,))


class Problem(msgspec.Struct, frozen=True):
    """A variant whose header could not be read, and why."""

    name: str
    message: str


class FitReport(Fit, frozen=True, kw_only=True):
    """The data of `fit --json`: the verdict on the model that was asked for, the machine, and its variants.

    `variants` are the verdicts on all of them with `--all`, else on the one; `best` is the name of the
    largest that fits. `problems` are those that could not be had.
    """

    machine: Host
    variants: list[Fit]
    best: str | None
    problems: list[Problem]


def report_on(asked: Asked, host: Host) -> FitReport:
    """The verdicts for a program."""
    best = best_variant(asked.variants)
    return FitReport(
        **{name: getattr(asked.selected, name) for name in Fit.__struct_fields__},
        machine=host,
        variants=list(asked.variants),
        best=best.name if best else None,
        problems=[Problem(name, message) for name, message in asked.problems],
    )


def best_variant(verdicts: tuple[Fit, ...]) -> Fit | None:
    """The largest variant of those with the best verdict, by parameters, then bytes; None when none fits.

    All layers on one GPU are no better than on several.
    """
    best = max(verdicts, key=lambda item: (_rank(item), item.parameters, item.file_bytes), default=None)
    return best if best is not None and _rank(best) else None


def _rank(verdict: Fit) -> int:
    return 0 if verdict.verdict == "unknown" else min(RANK[verdict.verdict], RANK["gpus"])


@dataclass(frozen=True, slots=True)
class _Family:
    """The variants of one repository. `source` opens its registry, once, for what is not in the store.

    `away` is why that cannot be reached, once it is known: it is not asked again.
    """

    reference: Reference
    card: Card | None
    judge: Judge
    store: Store
    catalog: Catalog
    source: Callable[[], Source]
    away: list[Unreachable] = field(default_factory=list)

    def judged(self, reference: Reference) -> Fit:
        """The verdict on one variant; by the numbers on its card, where the registry cannot be reached.

        Raises: ReferenceUnknown; what the registry raises.
        """
        variant = self.card.variant(reference.tag) if self.card and reference.tag else None
        name = reference.familiar()
        stored = _stored(reference, self.store)
        if stored is not None:
            return self.judge(subject_of_model(name, stored, self.store), variant)
        try:
            if self.away:
                raise self.away[0]
            source = self.source()
            named, root = resolve(reference, source, self.catalog, self.store)
            return self.judge(subject_of_model(named.familiar(), root, source), variant)
        except Unreachable as error:
            self.away.append(error)
            subject = subject_of_card(self.card, variant, name) if self.card and variant else None
            if subject is None:
                raise
            verdict = self.judge(subject, variant)
            return msgspec.structs.replace(verdict, notes=[*verdict.notes, f"{BY_CARD}: {error.message}"])

    def all(self, selected: Fit) -> Asked:
        """The verdicts on all variants, each content once, `selected` among them; by size without a card."""
        tags, problems = self._tags()
        verdicts: list[Fit] = []
        for tag in tags:
            other = Reference(self.reference.registry, self.reference.repository, tag)
            try:
                verdict = selected if self._is_asked_for(tag) else self.judged(other)
            except QwenctlError as error:
                problems.append((other.familiar(), error.message))
                continue
            known = {selected.id, *(item.id for item in verdicts)}
            if verdict is selected or verdict.id is None or verdict.id not in known:
                verdicts.append(verdict)
        if not any(item is selected for item in verdicts):
            verdicts.insert(0, selected)
        if self.card is None:
            verdicts.sort(key=lambda item: (item.parameters, item.file_bytes))
        return Asked(selected, tuple(verdicts), tuple(problems))

    def _tags(self) -> tuple[list[str], list[tuple[str, str]]]:
        """One tag of each of the card's variants, or the registry's tags where there is no card; then what
        else of the repository is in the store. And what is in the way of more.
        """
        tags, problems = [variant.tag for variant in self.card.variants] if self.card else [], []
        if self.card is None:
            try:
                tags = self._listed()
            except QwenctlError as error:
                problems.append((self._name, error.message))
        if len(tags) > TAG_LIMIT and self.card is None:
            tags = tags[:TAG_LIMIT]
            problems.append((self._name, f"there are more tags; only the first {TAG_LIMIT} were looked at"))
        known = {*tags, *(self.card.tags if self.card else ())}
        stored = [tagged.tag for tagged, _ in self.store.tags() if self._is_here(tagged)]
        further = [tag for tag in (*stored, self.reference.tag) if tag and tag not in known]
        return [*tags, *dict.fromkeys(further)], problems

    def _listed(self) -> list[str]:
        """The registry's tags, at most one more than are looked at; none of the built-in registry."""
        from qwenctl.remote.mirrors import Mirrored
        from qwenctl.remote.repository import Repository

        source = self.source()
        return [*islice(source.tags(), TAG_LIMIT + 1)] if isinstance(source, Repository | Mirrored) else []

    @property
    def _name(self) -> str:
        return Reference(self.reference.registry, self.reference.repository).familiar()

    def _is_here(self, other: Reference) -> bool:
        ours = (self.reference.registry, self.reference.repository)
        return (other.registry, other.repository) == ours

    def _is_asked_for(self, tag: str) -> bool:
        if self.reference.pinned or not self.reference.tag:
            return False
        variant = self.card.variant(self.reference.tag) if self.card else None
        return tag == self.reference.tag or (variant is not None and tag in variant.tags)


def _stored(reference: Reference, store: Store) -> Descriptor | None:
    try:
        return store.resolve(reference)
    except ReferenceUnknown:
        return None
