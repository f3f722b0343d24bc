"""Search: models by words, in the catalogue and among what Docker Hub lists."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Literal

import msgspec

from qwenctl.flows.show import card_reference
from qwenctl.model.card import Card, Variant
from qwenctl.oci.reference import Reference, is_repository
from qwenctl.remote.hub_search import HubModel

Source = Literal["built-in", "catalogue", "docker hub"]

Judge = Callable[[Card], Mapping[str, bool | None]]
"""Whether each variant of a card fits a machine, by its name; None: nobody knows."""


class FoundVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant by its card. `fits` is the verdict that `show` has for this machine; null: nobody knows."""

    name: str
    parameters: str
    quantization: str | None
    size_bytes: int | None
    vram_bytes: int | None
    pulled: bool
    fits: bool | None


class FoundModel(msgspec.Struct, frozen=True, kw_only=True):
    """A family. `pulls` and `stars` are Docker Hub's; null where it was not asked or does not have it.

    What only Docker Hub has comes without variants: `qwenctl fit NAME --all` looks at them.
    """

    name: str
    source: Source
    title: str
    description: str
    languages: list[str]
    variants: list[FoundVariant]
    pulled: bool
    pulls: int | None = None
    stars: int | None = None


class SearchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `search --json`. `hub_problem` is why Docker Hub said nothing; null when it answered.

    `total` is how many there are; `models` are the first of them.
    """

    words: list[str]
    models: list[FoundModel]
    total: int
    hub_problem: str | None


def search(
    words: Sequence[str],
    cards: Iterable[Card],
    stored: Set[Reference],
    hub: Iterable[HubModel],
    judge: Judge,
) -> list[FoundModel]:
    """The models in which every word is found, in any case, those with the words in their names first."""
    wanted = [word.casefold() for word in words]
    by_name = {model.name: model for model in hub}
    found = []
    for card in cards:
        listed = by_name.pop(card.name, None)
        if _matches(wanted, _texts(card)):
            found.append((_rank(wanted, card.name), _of_card(card, stored, listed, judge(card))))
    for model in by_name.values():
        if is_repository(model.name) and _matches(wanted, (model.name, model.description or "")):
            found.append((_rank(wanted, model.name), _of_hub(model, stored)))
    return [model for _, model in sorted(found, key=lambda row: (row[0], -(row[1].pulls or 0), row[1].name))]


def _matches(wanted: Sequence[str], texts: Iterable[str]) -> bool:
    whole = "\n".join(texts).casefold()
    return all(word in whole for word in wanted)


def _rank(wanted: Sequence[str], name: str) -> int:
    """0: the name is what was asked for; 1: it has all the words; 2: they are elsewhere."""
    if [name] == list(wanted):
        return 0
    return 1 if all(word in name for word in wanted) else 2


def _texts(card: Card) -> Iterator[str]:
    yield from (card.name, card.title, card.description, card.provider, card.architecture, card.license)
    yield from card.languages
    yield from card.aliases
    yield from (f"{use.title} {use.text}" for use in card.intended_uses)
    for variant in card.variants:
        yield from (f"{card.name}:{tag}" for tag in variant.tags)
        yield variant.parameters
    if card.tool_calling:
        yield "tool calling"


def _of_card(
    card: Card, stored: Set[Reference], hub: HubModel | None, fits: Mapping[str, bool | None]
) -> FoundModel:
    variants = [_variant(card, variant, stored, fits) for variant in card.variants]
    return FoundModel(
        name=card.name,
        source="built-in" if card.built_in else "catalogue",
        title=card.title,
        description=" ".join(card.description.split()),
        languages=list(card.languages),
        variants=variants,
        pulled=any(variant.pulled for variant in variants),
        pulls=hub.pull_count if hub else None,
        stars=hub.star_count if hub else None,
    )


def _variant(
    card: Card, variant: Variant, stored: Set[Reference], fits: Mapping[str, bool | None]
) -> FoundVariant:
    name = f"{card.name}:{variant.tag}"
    return FoundVariant(
        name=name,
        parameters=variant.parameters,
        quantization=variant.quantization,
        size_bytes=variant.size_bytes,
        vram_bytes=variant.vram_bytes,
        pulled=any(card_reference(card, tag) in stored for tag in variant.tags),
        fits=fits.get(name),
    )


def _of_hub(model: HubModel, stored: Set[Reference]) -> FoundModel:
    reference = Reference.parse(model.name)
    same = (reference.registry, reference.repository)
    return FoundModel(
        name=model.name,
        source="docker hub",
        title=model.name,
        description=_plain(model.description or ""),
        languages=[],
        variants=[],
        pulled=any((name.registry, name.repository) == same for name in stored),
        pulls=model.pull_count,
        stars=model.star_count,
    )


def _plain(text: str) -> str:
    """A stranger's text in one line, without what a terminal would obey."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
