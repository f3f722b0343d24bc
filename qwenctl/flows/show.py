"""Show: what there is to know about a model, from its card and from the store."""

from dataclasses import dataclass

from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import Found, find
from qwenctl.flows.names import is_id, near_names, unknown
from qwenctl.flows.spelling import parse_wanted
from qwenctl.flows.views import ModelView, view
from qwenctl.model.card import Card
from qwenctl.oci.reference import BUILT_IN, DEFAULT_NAMESPACE, DOCKER_HUB, Reference
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Shown:
    """A card, the family's models in the store, and the tag that was asked for."""

    card: Card | None
    stored: tuple[ModelView, ...]
    selected: str | None

    def reference(self, tag: str) -> Reference:
        """The full name of one of the card's tags."""
        assert self.card is not None
        return card_reference(self.card, tag)


def card_reference(card: Card, tag: str) -> Reference:
    """The full name of one of a card's tags."""
    if card.built_in:
        return Reference(BUILT_IN, card.name, tag)
    return Reference(DOCKER_HUB, f"{DEFAULT_NAMESPACE}/{card.name}", tag)


def show(text: str, store: Store, catalog: Catalog, registry: str) -> Shown:
    """The card of the family that `text` names, and its models in the store.

    Raises: InvalidReference; ReferenceUnknown, with near names, when there is neither card nor model,
    or the card has no such tag.
    """
    if is_id(text):
        found = find(text, store, catalog, registry)
        return Shown(None, (view(found, store),), None)
    reference = parse_wanted(text, catalog, registry)
    card = catalog.card_of(reference)
    stored = tuple(
        view(Found(name, root), store)
        for name, root in store.tags()
        if (name.registry, name.repository) == (reference.registry, reference.repository)
    )
    here = any(model.reference == str(reference) for model in stored)
    known = card is not None and (reference.pinned or card.variant(reference.tag or "") is not None)
    if not (known or here):
        near = near_names(reference, catalog.known(), store)
        raise unknown(reference, near, "in the store or among the model cards")
    return Shown(card, stored, reference.tag)
