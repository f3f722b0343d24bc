"""Everything under some roots: what a name needs to be whole, and what a collection must keep."""

from collections.abc import Iterable
from dataclasses import dataclass

from qwenctl.errors import BlobUnknown, IntegrityError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Document, Index
from qwenctl.oci.target import Source, read_document


@dataclass(frozen=True, slots=True)
class Reach:
    """What was found, the roots first. What lies under the `unreadable` manifests is not known."""

    content: tuple[Descriptor, ...]
    unreadable: tuple[Descriptor, ...]


def reach(source: Source, roots: Iterable[Descriptor]) -> Reach:
    """All content under `roots`, themselves included. A `subject` is not followed: it has its own root."""
    # The kind is part of the key: one manifest may list as a layer what another lists as a manifest.
    found: dict[tuple[Digest, bool], Descriptor] = {}
    unreadable: list[Descriptor] = []
    level = list(roots)
    while level:
        new = {(item.digest, item.is_manifest): item for item in level}
        new = {key: item for key, item in new.items() if key not in found}
        found |= new
        level = []
        for item in new.values():
            if item.is_manifest:
                try:
                    level.extend(_children(read_document(source, item)))
                except (BlobUnknown, IntegrityError):
                    unreadable.append(item)
    return Reach(tuple(found.values()), tuple(unreadable))


def _children(document: Document) -> tuple[Descriptor, ...]:
    """All that `document` lists, without the merging of equal digests that `successors` does."""
    return document.manifests if isinstance(document, Index) else (document.config, *document.layers)
