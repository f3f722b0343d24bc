"""The content under the models of a store, each manifest read once however many models share it."""

from collections.abc import Iterable
from dataclasses import dataclass

from qwenctl.errors import AccessDenied, BlobUnknown, IntegrityError, QwenctlError
from qwenctl.flows.find import Found
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Document, Index, parse_document
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source, read_document
from qwenctl.store.layout import Entry
from qwenctl.store.store import Store

Key = tuple[Digest, str]
"""A manifest as what it is read: one document may be listed under two media types."""


@dataclass(frozen=True, slots=True)
class Model:
    """A name and what it names. `reference` is None for a name that belongs to no registry."""

    name: str
    reference: Reference | None
    root: Descriptor


def models_of(entries: Iterable[Entry]) -> list[Model]:
    """The models of an index: tags, what is kept by its digest alone, entries of other tools."""
    listed = list(entries)
    tagged = {
        (entry.descriptor.digest, _home(entry.reference)) for entry in listed if entry.reference is not None
    }
    return [
        _model(entry)
        for entry in listed
        if entry.repository is None or (entry.descriptor.digest, entry.repository) not in tagged
    ]


def same_models(store: Store, founds: Iterable[Found]) -> list[Model]:
    """The models that were found, with all further names of the same content."""
    models = models_of(store.entries())
    chosen: list[Model] = []
    for found in founds:
        same = [model for model in models if model.root.digest == found.root.digest]
        chosen += same or [Model(found.name, found.reference, found.root)]
    return list({(model.name, model.root.digest): model for model in chosen}.values())


class Tree:
    """Walks from roots to content. `unread` are the manifests that say nothing, and why."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._children: dict[Key, tuple[Descriptor, ...]] = {}
        self.unread: dict[Key, tuple[Descriptor, QwenctlError]] = {}

    def under(self, root: Descriptor) -> list[Descriptor]:
        """`root` and all that is known to be under it, parents first. A `subject` is not followed."""
        found: dict[Key, Descriptor] = {}
        level = [root]
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
    return document.manifests if isinstance(document, Index) else (document.config, *document.layers)


def _model(entry: Entry) -> Model:
    reference = entry.reference
    registry, _, repository = (entry.repository or "").partition("/")
    if reference is None and registry and repository:
        reference = Reference(registry, repository, None, entry.descriptor.digest)
    if reference is not None:
        return Model(reference.familiar(), reference, entry.descriptor)
    return Model(entry.name or entry.descriptor.digest.short, None, entry.descriptor)


def _home(reference: Reference) -> str:
    return f"{reference.registry}/{reference.repository}"
