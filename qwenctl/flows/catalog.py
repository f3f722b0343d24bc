"""The catalogue: the built-in registry and the model cards, as one thing to ask."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Self

from qwenctl.model.card import Card, parse_card
from qwenctl.oci.reference import BUILT_IN, DEFAULT_NAMESPACE, DOCKER_HUB, Reference
from qwenctl.store.catalog import built_in_names, card_paths, catalog_path, open_catalog
from qwenctl.store.store import Store


class Catalog:
    """What ships with the program. Cards are read when they are asked for: a start reads none."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """The catalogue of this installation. Raises: FileMissing when it is not there."""
        return cls(path or catalog_path())

    @cached_property
    def store(self) -> Store:
        """The built-in registry, only to be read."""
        return open_catalog(self._path)

    @cached_property
    def families(self) -> dict[str, Path]:
        """The card files by family."""
        return card_paths(self._path)

    def is_built_in(self, name: str) -> bool:
        """See `Names.is_built_in`."""
        return name in self._built_in

    def alias(self, name: str) -> tuple[str, str] | None:
        """See `Names.alias`. A family's own name is none, and costs no reading of cards."""
        if name.lower() in self.families:
            return None
        for card in self.cards():
            if tag := card.alias(name):
                return card.name, tag
        return None

    def names(self) -> Iterable[str]:
        """Every family, and every family with each of its tags: the names in one spelling."""
        for card in self.cards():
            yield card.name
            yield from (f"{card.name}:{tag}" for tag in card.tags)

    def known(self) -> Iterable[str]:
        """See `Names.known`."""
        yield from self.names()
        for card in self.cards():
            yield from card.aliases

    def card(self, family: str) -> Card | None:
        """The card of a family; None when there is none. Raises: Malformed for a damaged file."""
        path = self.families.get(family)
        return parse_card(path.read_bytes(), path.name) if path else None

    def card_of(self, reference: Reference) -> Card | None:
        """The card of a repository that the catalogue speaks for: built-in ones, and `ai/` on Docker Hub."""
        namespace, _, family = reference.repository.rpartition("/")
        speaks = (reference.registry, namespace) in {(BUILT_IN, ""), (DOCKER_HUB, DEFAULT_NAMESPACE)}
        return self.card(family) if speaks else None

    def cards(self) -> tuple[Card, ...]:
        """All cards, by name."""
        return self._cards

    @cached_property
    def _built_in(self) -> frozenset[str]:
        return built_in_names(self.store)

    @cached_property
    def _cards(self) -> tuple[Card, ...]:
        return tuple(parse_card(path.read_bytes(), path.name) for path in self.families.values())
