"""Push: a model of the store to its registry."""

from collections.abc import Callable
from contextlib import suppress

from qwenctl.errors import BlobUnknown, IntegrityError
from qwenctl.flows.copy import Copied, Observer, copy, ignore
from qwenctl.flows.find import Found
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Target
from qwenctl.store.reach import reach
from qwenctl.store.store import Store


def push(
    found: Found, reference: Reference, store: Store, target: Target, observe: Observer = ignore
) -> Copied:
    """Bring a stored model to `target` under `reference`, skipping what is there; the tag is last.

    Raises: BlobUnknown when content is missing here, RemoteError.
    """
    return copy(store, reference, target, root=found.root, observe=observe)


def other_homes(store: Store, reference: Reference) -> Callable[[Digest], str | None]:
    """Where else at the registry of `reference` a blob may be: repositories of models that are here, too.

    They came from there, or were pushed to there; the registry may take a blob over without its bytes.
    """
    homes: dict[Digest, str] = {}
    for other, root in store.tags():
        if other.registry == reference.registry and other.repository != reference.repository:
            with suppress(BlobUnknown, IntegrityError):
                for item in reach(store, (root,)).content:
                    homes.setdefault(item.digest, other.repository)
    return homes.get
