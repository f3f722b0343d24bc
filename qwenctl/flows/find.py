"""Find: from what a person types to a model in the store."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qwenctl.errors import ReferenceUnknown
from qwenctl.flows.names import is_id, near_names, parse_name, unknown
from qwenctl.flows.spelling import by_card, meant, spelled, stored_tags
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store

if TYPE_CHECKING:
    from qwenctl.flows.catalog import Catalog  # what reads cards; `list` needs none


@dataclass(frozen=True, slots=True)
class Found:
    """A model in the store: the name that it was found under (None: by id, untagged) and its root."""

    reference: Reference | None
    root: Descriptor
    by_id: bool = False

    @property
    def name(self) -> str:
        """The short name, else the id."""
        return self.reference.familiar() if self.reference else self.root.digest.short

    @property
    def key(self) -> str:
        """What is kept about it is filed under this: the full name, else the whole digest."""
        return str(self.reference or self.root.digest)


def find(text: str, store: Store, catalog: "Catalog", registry: str) -> Found:
    """The model in the store that `text` names, by name, its tag in any case, or by id.

    Raises: InvalidReference; ReferenceUnknown with near names as the hint; Conflict for an id that
    several models begin with.
    """
    if is_id(text):
        return Found(*store.find(text), by_id=True)
    reference = parse_name(text, catalog, registry)
    try:
        return Found(reference, store.resolve(reference))
    except ReferenceUnknown as error:
        found = spelled(reference, stored_tags(reference, store))
        if found is None:
            raise _not_here(by_card(reference, catalog), store, catalog) from error
        return Found(found, store.resolve(found))


def _not_here(reference: Reference, store: Store, catalog: "Catalog") -> ReferenceUnknown:
    """The error, with what is near: first of what is here, then of what can be pulled."""
    if near := near_names(reference, (), store):
        return unknown(reference, near, "in the store")
    error = unknown(reference, meant(reference, catalog, store), "in the store")
    if error.hint:
        return error
    return ReferenceUnknown(error.message, hint=f"`qwenctl pull {reference.familiar()}`")
