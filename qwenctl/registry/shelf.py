"""The shelf: repositories as clients see them, over the stores that hold them.

A repository `ai/qwen2.5` of the server is `docker.io/ai/qwen2.5` in the store, or the first of `registries`
that has it; what is pushed goes under the first. Stores behind the first are only read.

Content is shared by all repositories of a store: the server has one owner, so a blob that is here is here
for every repository. What is deleted in one repository while something else needs it, a model or a push
under way in another repository, stays on disk and is hidden in the one. What is hidden, what is under way
and which repositories are known though empty is kept in memory: after a restart a blob that models need
shows again to who knows its digest, which with one owner takes nothing from anybody.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
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
        self._hidden_blobs: set[tuple[str, Digest]] = set()
        self._hidden_manifests: set[tuple[str, Digest]] = set()
        self._arrived: dict[Digest, set[str]] = {}  # blobs that no manifest refers to yet: who pushed them
        self._known: set[str] = set()
        self._subjects: dict[Digest, Digest | None] = {}
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
        """The tags of a repository, sorted; None when there is no such repository, not even an empty one."""
        rows = [entry for _, name, entry in self._rows() if name == repository]
        if not rows and repository not in self._known:
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
        if (repository, digest) in self._hidden_manifests:
            return None
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

    def referrers(self, repository: str, subject: Digest) -> Iterator[tuple[Descriptor, Document]]:
        """The tagged and linked manifests with this subject, each once; damaged ones are left out."""
        seen: set[Digest] = set()
        for store, name, entry in self._rows():
            descriptor = entry.descriptor
            if name != repository or descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            with suppress(BlobUnknown, IntegrityError):
                if self._subject(store, descriptor) == subject:
                    yield descriptor, read_document(store, descriptor)

    def blob(self, repository: str, digest: Digest) -> Placed | None:
        """Content by digest; None when no store has it, or it is hidden in this repository."""
        if (repository, digest) in self._hidden_blobs:
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
                    for part in reversed(reach(store, (item,)).content):  # what is below goes first
                        if store.exists(part):  # a layer that may not be passed on may be absent
                            self.store.push(part, partial(store.fetch, part))

    def delete_blob(self, repository: str, digest: Digest) -> bool:
        """Take a blob out of a repository; whether it was there. Its file goes when nothing needs it."""
        placed = self.blob(repository, digest)
        if placed is None:
            return False
        with self._lock:
            self._hidden_blobs.add((repository, digest))
            if placed.store is self.store and not self._leave(repository, digest):
                with suppress(Conflict, BlobUnknown):
                    delete_blob(self.store, digest)
        return True

    def add_blob(self, repository: str, digest: Digest) -> None:
        """A blob was pushed or mounted: the repository has it, and a manifest of it is to be expected."""
        with self._lock:
            self._hidden_blobs.discard((repository, digest))
            self._arrived.setdefault(digest, set()).add(repository)
            self._known.add(repository)

    def add_manifest(self, repository: str, digest: Digest, document: Document) -> None:
        """A manifest was pushed: from now on it is what keeps the content that it refers to."""
        with self._lock:
            self._hidden_manifests.discard((repository, digest))
            for item in document.successors:
                self._leave(repository, item.digest)
            self._known.add(repository)

    def _leave(self, repository: str, digest: Digest) -> bool:
        """This repository no longer waits to use a blob; whether others do."""
        waiting = self._arrived.get(digest, set())
        waiting.discard(repository)
        if not waiting:
            self._arrived.pop(digest, None)
        return bool(waiting)

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
        placed = self.manifest(repository, digest)
        if placed is None or placed.store is not self.store:
            return False
        for entry in self._own(repository):
            if entry.descriptor.digest != digest:
                continue
            if entry.reference is not None:
                self.store.untag(entry.reference)
            elif entry.repository is not None:
                self.store.unlink(digest, entry.repository)
        left = self.manifest(repository, digest)
        with self._lock:
            self._known.add(repository)
            if left is not None and left.store is self.store:  # an index lists it
                self._hidden_manifests.add((repository, digest))
        return True

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

    def _subject(self, store: Store, descriptor: Descriptor) -> Digest | None:
        """The subject of a manifest; read once, for a digest never means anything else."""
        if descriptor.digest not in self._subjects:
            document = read_document(store, descriptor)
            self._subjects[descriptor.digest] = document.subject.digest if document.subject else None
        return self._subjects[descriptor.digest]


def _repository(entry: Entry, registry: str) -> str | None:
    """The repository of an index entry at `registry`; None when it belongs elsewhere."""
    full = entry.repository
    if entry.reference is not None:
        full = f"{entry.reference.registry}/{entry.reference.repository}"
    host, _, name = (full or "").partition("/")
    return name if host == registry and name else None
