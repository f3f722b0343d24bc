"""Pull: a reference, a source and the store; afterwards the store has what the source has."""

from dataclasses import dataclass

from qwenctl.errors import BlobUnknown, DigestMismatch, ReferenceUnknown
from qwenctl.flows.copy import Observer, copy, ignore
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Index
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source, read_document
from qwenctl.store.check import settle
from qwenctl.store.reach import reach
from qwenctl.store.store import Store


@dataclass(frozen=True, slots=True)
class Pulled:
    """The outcome of a pull. `moved_bytes` is what really came over; 0 when it was up to date."""

    reference: Reference
    root: Descriptor
    up_to_date: bool
    moved_bytes: int
    blobs_moved: int
    blobs_present: int


def pull(
    reference: Reference,
    source: Source,
    store: Store,
    observe: Observer = ignore,
    root: Descriptor | None = None,
) -> Pulled:
    """Bring what `reference` names at `source` into `store`; its tag is the last write.

    `root` is what it resolved to, for a caller that knows. Costs one HEAD when nothing changed. A pinned
    reference moves no tag. What is here but looks changed is proved, and fetched again when it is damaged.

    Raises: ReferenceUnknown, RemoteError, IntegrityError, DiskFull.
    """
    root = root or source.resolve(reference)
    if store.exists(root):
        settle(store.layout, reach(store, (root,)).content)
    if is_current(reference, root, store):
        return Pulled(reference, root, True, 0, 0, 0)
    copied = copy(source, reference, store, root=root, observe=observe)
    return Pulled(
        reference,
        copied.root,
        False,
        copied.moved_bytes,
        copied.blobs_moved,
        copied.blobs_present,
    )


def pinned_here(reference: Reference, store: Store) -> Pulled | None:
    """The outcome of a pull by digest that needs no registry, because all of it is here; else None."""
    if not reference.pinned:
        return None
    try:
        root = store.resolve(reference)
    except ReferenceUnknown:
        return None
    settle(store.layout, reach(store, (root,)).content)
    return Pulled(reference, root, True, 0, 0, 0) if is_complete(root, store) else None


def check_expected(reference: Reference, root: Descriptor, expected: Digest | None) -> None:
    """Raises: DigestMismatch when `reference` names something else than `expected` now."""
    if expected is not None and root.digest != expected:
        raise DigestMismatch(
            f"`{reference.familiar()}` is `{root.digest}`, not the expected `{expected}`",
            hint="the tag may have moved; nothing was downloaded",
        )


def is_current(reference: Reference, root: Descriptor, store: Store) -> bool:
    """Whether `reference` names `root` in the store already, with all of its content."""
    return current(reference, store) == root.digest and is_complete(root, store)


def current(reference: Reference, store: Store) -> object:
    """The digest that `reference` has in the store now; None when it is not there."""
    try:
        return store.resolve(reference).digest
    except ReferenceUnknown:
        return None


def is_complete(root: Descriptor, store: Store) -> bool:
    """Whether all content under `root` is present with its size."""
    if not store.exists(root):
        return False
    try:
        document = read_document(store, root)
    except BlobUnknown:
        return False
    if isinstance(document, Index):
        return all(is_complete(item, store) for item in document.manifests)
    return all(store.exists(item) for item in document.successors)
