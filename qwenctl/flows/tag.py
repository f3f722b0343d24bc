"""Tag: one more name for content of the store, which is shared, not copied."""

from qwenctl.errors import InvalidReference
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import Found, find
from qwenctl.flows.names import parse_name
from qwenctl.oci.reference import Reference
from qwenctl.store.store import Store


def tag(source: str, target: str, store: Store, catalog: Catalog, registry: str) -> tuple[Found, Reference]:
    """Give the model that `source` names the name `target`; the model under it, and the name in full.

    Raises: InvalidReference, also for a name with a digest; as `find`.
    """
    found = find(source, store, catalog, registry)
    name = parse_new_name(target, catalog, registry)
    store.tag(found.root, name)
    return Found(name, found.root), name


def parse_new_name(text: str, catalog: Catalog, registry: str) -> Reference:
    """The reference that content shall get. Raises: InvalidReference, also for one with a digest."""
    name = parse_name(text, catalog, registry)
    if name.pinned:
        raise InvalidReference(f"`{text}` pins a digest, a new name is a tag", hint="write NAME:TAG")
    return name
