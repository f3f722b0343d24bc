"""Remove: the names first, then what nothing refers to any more."""

from collections.abc import Sequence

from qwenctl.errors import Conflict
from qwenctl.flows.find import Found
from qwenctl.oci.reference import Reference
from qwenctl.store.gc import Collected, collect
from qwenctl.store.store import Store


def remove(founds: Sequence[Found], store: Store) -> Collected:
    """Take the names of `founds` away, then free what no other name and no running pull needs.

    A model that was found by its id goes under its one name. Raises: Conflict when it has several;
    ReferenceUnknown when a name went meanwhile.
    """
    names = [(_name(found, store), found.root) for found in founds]
    for reference, root in names:
        store.untag(reference)
        if not reference.pinned:  # a registry may have kept it by digest, too
            store.unlink(root.digest, f"{reference.registry}/{reference.repository}")
    return collect(store, candidates=[root for _, root in names])


def _name(found: Found, store: Store) -> Reference:
    if found.reference is None:
        raise Conflict(f"`{found.root.digest.short}` has no name", hint="a registry keeps it")
    same = [reference for reference, root in store.tags() if root.digest == found.root.digest]
    if found.by_id and len(same) > 1:
        listed = ", ".join(f"`{reference.familiar()}`" for reference in same)
        raise Conflict(f"`{found.root.digest.short}` has several names: {listed}", hint="remove it by name")
    return found.reference
