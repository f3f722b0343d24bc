"""The shelf: repositories as clients see them, over the stores that hold them.

A repository `ai/qwen2.5` of the server is `docker.io/ai/qwen2.5` in the store, or the first of `registries`
that has it; what is pushed goes under the first. Stores behind the first are only read.

Content is shared by all repositories of a store: the server has one owner, so that a blob that is here is
here for every repository. A blob that is deleted in one repository while models still need it is only
hidden there, for as long as the server runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock

from qwenctl.errors import BlobUnknown, Conflict, IntegrityError
from qwenctl.oci.descriptor import INDEX_TYPES, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Document
from qwenctl.oci.reference import BUILT_IN, DOCKER_HUB, Reference
from qwenctl.oci.target import read_document
from qwenctl.store.gc import delete_blob
from qwenctl.store.layout import Entry
from qwenctl.store.reach import reach
from qwenctl.store.store import Store

REGISTRIES = (DOCKER_HUB, BUILT_IN)


@dataclass(frozen=True, slots=True)
class Placed:
    """A manifest and the store that holds it."""

    descriptor: Descriptor
    store: Store


class Shelf:
    """What the server has. Any thread may call; methods raise what stores raise."""

    def __init__(
        self, store: Store, fallback: Store | None = None, registries: Sequence[str] = REGISTRIES
    ) -> None:
        self.store = store
        self._stores = (store,) if fallback is None else (store, fallback)
        self._registries = tuple(registries)
        self._hidden: set[tuple[str, Digest]] = set()
        self._documents: dict[Digest, Document] = {}
        self._lock = Lock()

    def reference(self, repository: str, tag: str) -> Reference:
        """The full name under which a tag that is pushed here is kept."""
        return Reference(self._registries[0], repository, tag)

    def home(self, repository: str) -> str:
        """The full name of a repository that is pushed to here."""
        return f"{self._registries[0]}/{repository}"

    def repositories(self) -> list[str]:
        """All repositories, sorted."""
        return sorted({name for _, name, _ in self._rows()})

    def tags(self, repository: str) -> list[str] | None:
        """The tags of a repository, sorted; None when there is no such repository."""
        rows = [entry for _, name, entry in self._rows() if name == repository]
        if not rows:
            return None
        return sorted({entry.reference.tag or "" for entry in rows if entry.reference is not None})

    def tagged(self, repository: str, tag: str) -> Placed | None:
        """What a tag names; the first store and registry that has it counts."""
        for store, name, entry in self._rows():
            if name == repository and entry.reference is not None and entry.reference.tag == tag:
                return Placed(entry.descriptor, store)
        return None

    def manifest(self, repository: str, digest: Digest) -> Placed | None:
        """The manifest of this digest, when the repository has it: tagged, linked, or under an index."""
        indexes = []
        for store, name, entry in self._rows():
            if name != repository:
                continue
            if entry.descriptor.digest == digest:
                return Placed(entry.descriptor, store)
            if entry.descriptor.media_type in INDEX_TYPES:
                indexes.append(Placed(entry.descriptor, store))
        for index in indexes:
            for item in reach(index.store, (index.descriptor,)).content:
                if item.digest == digest and item.is_manifest:
                    return Placed(item, index.store)
        return None

    def manifests(self, repository: str) -> Iterator[tuple[Placed, Document]]:
        """The tagged and linked manifests of a repository, parsed, each once; damaged ones left out."""
        seen: set[Digest] = set()
        for store, name, entry in self._rows():
            digest = entry.descriptor.digest
            if name != repository or digest in seen:
                continue
            seen.add(digest)
            document = self._document(store, entry.descriptor)
            if document is not None:
                yield Placed(entry.descriptor, store), document

    def blob(self, repository: str, digest: Digest) -> Placed | None:
        """Content by digest; None when no store has it, or it is hidden in this repository."""
        if (repository, digest) in self._hidden:
            return None
        for store in self._stores:
            try:
                return Placed(store.describe(digest), store)
            except BlobUnknown:
                continue
        return None

    def bring(self, descriptors: Iterable[Descriptor]) -> None:
        """Take content that only the stores behind have into the first: a model pushed there needs it."""
        for item in descriptors:
            for store in self._stores[1:]:
                if not self.store.exists(item) and store.exists(item):
                    self.store.push(item, partial(store.fetch, item))

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob out of a repository; whether it was there. Its file goes when nothing needs it."""
        placed = self.blob(repository, digest)
        if placed is None:
            return False
        with self._lock:
            try:
                if placed.store is self.store:
                    delete_blob(self.store, digest)
            except (Conflict, BlobUnknown):
                pass
            self._hidden.add((repository, digest))
        return True

    def unhide(self, repository: str, digest: Digest) -> None:
        """A blob was pushed or mounted: the repository has it again."""
        with self._lock:
            self._hidden.discard((repository, digest))

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Take a tag away, keeping its manifest by digest; whether it was there."""
        placed = self.tagged(repository, tag)
        if placed is None or placed.store is not self.store:
            return False
        self.store.link(placed.descriptor, self.home(repository))
        for entry in self._own(repository):
            if entry.reference is not None and entry.reference.tag == tag:
                self.store.untag(entry.reference)
        return True

    def delete_manifest(self, repository: str, digest: Digest) -> bool:
        """Take a manifest out of a repository, with all its tags there; whether it was there."""
        found = False
        for entry in self._own(repository):
            if entry.descriptor.digest != digest:
                continue
            found = True
            if entry.reference is not None:
                self.store.untag(entry.reference)
            elif entry.repository is not None:
                self.store.unlink(digest, entry.repository)
        return found

    def _own(self, repository: str) -> list[Entry]:
        return [entry for store, name, entry in self._rows() if name == repository and store is self.store]

    def _rows(self) -> Iterator[tuple[Store, str, Entry]]:
        """Store, repository and entry of everything that the server shows, in the order of precedence."""
        for store in self._stores:
            entries = store.entries()
            for registry in self._registries:
                for entry in entries:
                    name = _repository(entry, registry)
                    if name is not None:
                        yield store, name, entry

    def _document(self, store: Store, descriptor: Descriptor) -> Document | None:
        known = self._documents.get(descriptor.digest)
        if known is None:
            try:
                known = read_document(store, descriptor)
            except (BlobUnknown, IntegrityError):
                return None
            self._documents[descriptor.digest] = known
        return known


def _repository(entry: Entry, registry: str) -> str | None:
    """The repository of an index entry at `registry`; None when it belongs elsewhere."""
    full = entry.repository
    if entry.reference is not None:
        full = f"{entry.reference.registry}/{entry.reference.repository}"
    host, _, name = (full or "").partition("/")
    return name if host == registry and name else None
