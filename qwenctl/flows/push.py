"""Push: a model of the store to its registry."""

from qwenctl.flows.copy import Copied, Observer, copy, ignore
from qwenctl.flows.find import Found
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Target
from qwenctl.store.store import Store


def push(
    found: Found, reference: Reference, store: Store, target: Target, observe: Observer = ignore
) -> Copied:
    """Bring a stored model to `target` under `reference`, skipping what is there; the tag is last.

    Raises: BlobUnknown when content is missing here, RemoteError.
    """
    return copy(store, reference, target, root=found.root, observe=observe)
