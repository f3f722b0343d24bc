"""Spelling: a tag is found in any case, and where there is none such, the near ones are named.

`qwen2.5:7b-q4_k_m` is `qwen2.5:7B-Q4_K_M`, by the model card, the store, or its registry's list of tags.
Another quantization is another model: it is offered, never taken.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from qwenctl.errors import QwenctlError, ReferenceUnknown, Unreachable
from qwenctl.flows.names import near_names, parse_name, unknown
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import BUILT_IN, DOCKER_HUB, Reference
from qwenctl.oci.target import Source
from qwenctl.store.store import Store

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog

TAG_LIMIT: Final = 500
"""Tags of a registry that are looked at for one that was meant."""


def parse_wanted(text: str, catalog: "Catalog", registry: str) -> Reference:
    """The reference that `text` means, its tag as the model card spells it. Raises: InvalidReference."""
    return by_card(parse_name(text, catalog, registry), catalog)


def by_card(reference: Reference, catalog: "Catalog") -> Reference:
    """`reference` as its card spells it; unchanged without a card, or for a tag that is not on it."""
    card = catalog.card_of(reference)
    return (spelled(reference, card.tags) if card else None) or reference


def spelled(reference: Reference, tags: Iterable[str]) -> Reference | None:
    """`reference` with its tag as `tags` have it; None when none of them is the same, or several are."""
    if reference.pinned or reference.tag is None:
        return None
    known = set(tags)
    if reference.tag in known:
        return reference
    same = [tag for tag in known if tag.casefold() == reference.tag.casefold()]
    return reference.tagged(same[0]) if len(same) == 1 else None


def stored_tags(reference: Reference, store: Store) -> tuple[str, ...]:
    """The tags that the store has of the same repository."""
    ours = (reference.registry, reference.repository)
    names = (name for name, _ in store.tags() if (name.registry, name.repository) == ours)
    return tuple(name.tag for name in names if name.tag)


def resolve(
    reference: Reference, source: Source, catalog: "Catalog", store: Store
) -> tuple[Reference, Descriptor]:
    """What `reference` names at `source`, and its name there.

    Raises: as `Source.resolve`; ReferenceUnknown and Unreachable with the names that it may have meant.
    """
    tags: tuple[str, ...] = ()
    try:
        try:
            return reference, source.resolve(reference)
        except ReferenceUnknown:
            tags = listed_tags(source)
            found = spelled(reference, tags)
            if found is None or found == reference:
                raise
            return found, source.resolve(found)
    except (ReferenceUnknown, Unreachable) as error:
        raise _with_near(error, reference, meant(reference, catalog, store, tags)) from error


def _with_near(
    error: ReferenceUnknown | Unreachable, reference: Reference, near: tuple[str, ...]
) -> ReferenceUnknown | Unreachable:
    asked = unknown(reference, near, "in the built-in registry")
    if reference.registry == BUILT_IN:
        return asked
    return type(error)(error.message, hint="; ".join(filter(None, (error.hint, asked.hint))) or None)


def listed_tags(source: Source) -> tuple[str, ...]:
    """The tags that a registry lists; none where it does not, or is no registry."""
    from qwenctl.remote.mirrors import Mirrored
    from qwenctl.remote.repository import Repository

    if not isinstance(source, Repository | Mirrored):
        return ()
    try:
        return tuple(islice(source.tags(), TAG_LIMIT))
    except QwenctlError:
        return ()


def meant(
    reference: Reference, catalog: "Catalog", store: Store, tags: Iterable[str] = ()
) -> tuple[str, ...]:
    """Names that `reference` may have meant: of the store, the cards, and `tags` of its repository."""
    known = [reference.tagged(tag).familiar() for tag in tags]
    if reference.registry in (BUILT_IN, DOCKER_HUB):
        known += catalog.known()
    return () if reference.familiar() in known else near_names(reference, known, store)
