"""Find: from what a person types to a model in the store."""

from dataclasses import dataclass

from qwenctl.errors import ReferenceUnknown
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.names import is_id, near_names, parse_name, unknown
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store


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


def find(text: str, store: Store, catalog: Catalog, registry: str) -> Found:
    """The model in the store that `text` names, by name or by id.

    Raises: InvalidReference; ReferenceUnknown with near names as the hint; Conflict for an id that
    several models begin with.
    """
    if is_id(text):
        return Found(*store.find(text), by_id=True)
    reference = parse_name(text, catalog, registry)
    try:
        return Found(reference, store.resolve(reference))
    except ReferenceUnknown as error:
        raise _not_here(reference, store) from error


def _not_here(reference: Reference, store: Store) -> ReferenceUnknown:
    near = near_names(reference, (), store)
    error = unknown(reference, near, "in the store")
    return error if near else ReferenceUnknown(error.message, hint=f"`qwenctl pull {reference.familiar()}`")
