"""Remove: the names first, then what nothing refers to any more."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import Reference
from qwenctl.store.gc import Collected, collect
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Removed:
    """The outcome: names that are gone, with what they named, and what was freed with them."""

    untagged: tuple[tuple[Reference, Descriptor], ...]
    collected: Collected


def remove(references: Sequence[Reference], store: Store) -> Removed:
    """Untag `references`, then free what no other tag and no running pull needs.

    All names are looked up before the first is removed. Raises: ReferenceUnknown, and nothing is
    removed then.
    """
    found = [(reference, store.resolve(reference)) for reference in references]
    for reference, _ in found:
        store.untag(reference)
    return Removed(tuple(found), collect(store, candidates=[root for _, root in found]))
