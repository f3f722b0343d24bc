"""Everything under some roots: what a name needs to be whole, and what a collection must keep."""

from collections.abc import Iterable
from dataclasses import dataclass

from qwenctl.errors import AccessDenied, BlobUnknown, IntegrityError, QwenctlError
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Document, Index, parse_document
from qwenctl.oci.target import Source, read_document

Key = tuple[Digest, str]
"""A manifest as what it is read: one document may be listed under two media types, or as a layer."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What was found, the roots first. What lies under the `unreadable` manifests is not known."""

    content: tuple[Descriptor, ...]
    unreadable: tuple[Descriptor, ...]


def reach(source: Source, roots: Iterable[Descriptor]) -> Reach:
    """All content under `roots`, themselves included. A `subject` is not followed: it has its own root."""
    tree = Tree(source)
    content = tree.under(*roots)
    return Reach(tuple(content), tuple(descriptor for descriptor, _ in tree.unread.values()))


class Tree:
    """Walks from roots to content. `unread` are the manifests that say nothing, and why."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._children: dict[Key, tuple[Descriptor, ...]] = {}
        self.unread: dict[Key, tuple[Descriptor, QwenctlError]] = {}

    def under(self, *roots: Descriptor) -> list[Descriptor]:
        """`roots` and all that is known to be under them, parents first. A `subject` has its own root."""
        found: dict[Key, Descriptor] = {}
        level = [*roots]
        while level:
            new = {(item.digest, item.media_type): item for item in level}
            new = {key: item for key, item in new.items() if key not in found}
            found |= new
            level = [child for item in new.values() if item.is_manifest for child in self._listed(item)]
        return list(found.values())

    def add(self, descriptor: Descriptor, raw: bytes) -> None:
        """Take a manifest, proved, that the source does not have. Raises: Malformed."""
        key = (descriptor.digest, descriptor.media_type)
        self._children[key] = _children(parse_document(raw, descriptor.media_type))
        self.unread.pop(key, None)

    def _listed(self, descriptor: Descriptor) -> tuple[Descriptor, ...]:
        key = (descriptor.digest, descriptor.media_type)
        if key in self.unread:
            return ()
        if key not in self._children:
            try:
                self._children[key] = _children(read_document(self._source, descriptor))
            except (BlobUnknown, IntegrityError, AccessDenied) as error:
                self.unread[key] = (descriptor, error)
                return ()
        return self._children[key]


def _children(document: Document) -> tuple[Descriptor, ...]:
    """All that `document` lists, without the merging of equal digests that `successors` does."""
    return document.manifests if isinstance(document, Index) else (document.config, *document.layers)
