"""`Store`: an OCI image layout as a Target, with names, links and removal."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from qwenctl.errors import (
    BlobUnknown,
    Conflict,
    IntegrityError,
    Malformed,
    ReferenceUnknown,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest, verify
from qwenctl.oci.manifest import MANIFEST_LIMIT, parse_document
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Reader, piece_of, read_bytes
from qwenctl.store.disk import Disk, translated
from qwenctl.store.ingest import adopt, ingest, present
from qwenctl.store.layout import Entries, Entry, Layout
from qwenctl.store.leases import lease
from qwenctl.store.leftovers import DAMAGED_PREFIX
from qwenctl.store.reach import reach
from qwenctl.store.room import ensure_room

BYTES: Final = "application/octet-stream"
"""The media type of content of which only the digest is known."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store holds, by size: whole blobs, what is still on its way, what was found damaged.

    `flows.usage` has the whole account, with the blocks on disk and what can go.
    """

    blobs: int
    size_bytes: int
    partial_bytes: int
    damaged_bytes: int


class Store:
    """Models on disk. Any number of threads and processes may use one store at the same time.

    Every method may raise AccessDenied, DiskFull (writing) and Malformed (a damaged index).
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @classmethod
    def open(cls, path: Path, *, create: bool = True, disk: Disk | None = None) -> Self:
        """The store at `path`, made if it is not there; a layout of another tool is one too.

        With `create` false nothing is written. Raises: FileMissing, Malformed when it is no image
        layout, Conflict when one would have to be made among files of something else.
        """
        layout = Layout(path, disk)
        if create:
            layout.ensure()
        layout.check()
        return cls(layout)

    @property
    def path(self) -> Path:
        """The directory of the layout."""
        return self.layout.root

    def entries(self) -> Entries:
        """All entries of the index: tags, links, and what other tools put there."""
        return self.layout.read().entries

    def tags(self) -> tuple[tuple[Reference, Descriptor], ...]:
        """Every tag with what it names, in the order of the index."""
        return tuple(
            (reference, entry.descriptor)
            for entry in self.entries()
            if (reference := entry.reference) is not None
        )

    def resolve(self, reference: Reference) -> Descriptor:
        """See `Source.resolve`. A digest resolves to any manifest that is here, tagged or not."""
        if reference.digest is not None:
            return self._resolve_digest(reference.digest)
        name = str(reference)
        for entry in self.entries():
            if entry.name == name:
                return entry.descriptor
        raise _unknown(reference)

    def find(self, prefix: str) -> tuple[Reference | None, Descriptor]:
        """The one model whose id begins with `prefix` (hex digits or a digest), under its first tag.

        The reference is None when it has no tag. Raises: ReferenceUnknown for none, Conflict for several.
        """
        found = [entry for entry in self.entries() if _has_id(entry, prefix)]
        if not found:
            raise ReferenceUnknown(f"no model with the id `{prefix}` in the store")
        if len({entry.descriptor.digest for entry in found}) > 1:
            raise Conflict(f"`{prefix}` begins the ids of several models", hint="give more digits")
        references = [reference for entry in found if (reference := entry.reference) is not None]
        return references[0] if references else None, found[0].descriptor

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Source.exists`: by size, for the digest was proved when it came; manifests are hashed."""
        return present(self.layout, descriptor)

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Source.fetch`."""
        path = self.layout.blob(descriptor.digest)
        with translated(path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError as error:
                raise _absent(descriptor.digest) from error
            file.seek(offset)
        return piece_of(file, length)

    def describe(self, digest: Digest) -> Descriptor:
        """The size of some content, as a descriptor of plain bytes. Raises: BlobUnknown."""
        path = self.layout.blob(digest)
        with translated(path):
            try:
                return Descriptor(BYTES, digest, path.stat().st_size)
            except FileNotFoundError as error:
                raise _absent(digest) from error

    def blob_path(self, descriptor: Descriptor) -> Path:
        """The file of some content, to be mapped, never changed. Raises: BlobUnknown."""
        if not self.exists(descriptor):
            raise BlobUnknown(f"`{descriptor.digest}` is not whole in the store", hint="pull the model again")
        return self.layout.blob(descriptor.digest)

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """See `Target.push`. A second process that pushes the same content waits and shares it."""
        if descriptor.is_manifest and descriptor.size > MANIFEST_LIMIT:
            raise Malformed(f"manifest of {descriptor.size} bytes is over the limit of {MANIFEST_LIMIT}")
        ingest(self.layout, descriptor, content, lambda raw: self._check_manifest(descriptor, raw))

    def adopt(self, descriptor: Descriptor, path: Path) -> None:
        """As `push` of a blob, from a closed file on the store's file system that is moved, not copied.

        After an error the file is still at `path`.
        """
        adopt(self.layout, descriptor, path)

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """See `Target.tag`: one atomic replacement of the index, once all under `descriptor` is here.

        A pinned reference moves no tag: the content is kept as a link of its repository.
        """
        if reference.pinned:
            return self.link(descriptor, _repository(reference))
        name = str(reference)
        entry = Entry.tag(descriptor, name)
        with self.layout.lock():
            self._require_whole(descriptor)
            self.layout.change_locked(lambda all_: (*(e for e in all_ if e.name != name), entry))

    def untag(self, reference: Reference) -> Descriptor:
        """Take a name away; what it named. The content stays. Raises: ReferenceUnknown.

        A pinned reference takes away the link of its repository, not the tags.
        """
        with self.layout.lock():
            gone = [entry for entry in self.entries() if _is_named(entry, reference)]
            if not gone:
                raise _unknown(reference)
            self.layout.change_locked(lambda all_: tuple(e for e in all_ if not _is_named(e, reference)))
        return gone[0].descriptor

    def link(self, descriptor: Descriptor, repository: str) -> None:
        """Keep a manifest without a tag, as part of `registry/repository`. Idempotent.

        Raises: BlobUnknown when the content, or some of what is under it, is not here.
        """
        entry = Entry.link(descriptor, repository)
        with self.layout.lock():
            self._require_whole(descriptor)
            self.layout.change_locked(
                lambda all_: all_ if _is_linked(all_, descriptor.digest, repository) else (*all_, entry)
            )

    def unlink(self, digest: Digest, repository: str) -> None:
        """Take a link away; without effect when there is none."""
        self.layout.change(
            lambda all_: tuple(entry for entry in all_ if not _is_linked((entry,), digest, repository))
        )

    def ensure_room(self, descriptors: Iterable[Descriptor]) -> None:
        """Raises: DiskFull when what is missing of this content is more than the disk has free."""
        ensure_room(self.layout, descriptors)

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """See `Target.protect`: a lease that ends with the block, or with the process."""
        return lease(self.layout, descriptors)

    def usage(self) -> Usage:
        """What the store holds at this moment."""
        sizes = _sizes(self.layout.blobs, "*/*")
        damaged = sum(_sizes(self.layout.ingests, f"{DAMAGED_PREFIX}*"))
        return Usage(len(sizes), sum(sizes), sum(_sizes(self.layout.ingests, "*")) - damaged, damaged)

    def _resolve_digest(self, digest: Digest) -> Descriptor:
        for entry in self.entries():
            if entry.descriptor.digest == digest:
                return entry.descriptor
        try:
            found = self.describe(digest)
            raw = read_bytes(self.fetch(found), min(found.size, MANIFEST_LIMIT))
            media_type = parse_document(verify(raw, digest, found.size)).media_type
        except (BlobUnknown, IntegrityError) as error:
            raise ReferenceUnknown(f"no model with the digest `{digest}` in the store") from error
        return Descriptor(media_type, digest, found.size)

    def _check_manifest(self, descriptor: Descriptor, raw: bytes) -> None:
        self._require(parse_document(raw, descriptor.media_type).successors)

    def _require_whole(self, descriptor: Descriptor) -> None:
        """All of it is here, to stay: who published it may have died before its names were durable."""
        content = reach(self, (descriptor,)).content
        self._require(content)
        for directory in {self.layout.blob(item.digest).parent for item in content}:
            if directory.is_dir():  # what is not distributed has none
                self.layout.disk.sync_directory(directory)

    def _require(self, descriptors: Iterable[Descriptor]) -> None:
        for descriptor in descriptors:
            if descriptor.is_distributable and not self.exists(descriptor):
                raise _absent(descriptor.digest)


def _repository(reference: Reference) -> str:
    return f"{reference.registry}/{reference.repository}"


def _has_id(entry: Entry, prefix: str) -> bool:
    digest = entry.descriptor.digest
    return digest.hex.startswith(prefix) or str(digest).startswith(prefix)


def _is_named(entry: Entry, reference: Reference) -> bool:
    if reference.digest is None:
        return entry.name == str(reference)
    return _is_linked((entry,), reference.digest, _repository(reference))


def _is_linked(entries: Entries, digest: Digest, repository: str) -> bool:
    return any(e.descriptor.digest == digest and e.repository == repository for e in entries)


def _sizes(directory: Path, pattern: str) -> list[int]:
    sizes = []
    with translated(directory):
        for path in directory.glob(pattern):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue  # it went meanwhile
    return sizes


def _absent(digest: Digest) -> BlobUnknown:
    return BlobUnknown(f"`{digest}` is not in the store")


def _unknown(reference: Reference) -> ReferenceUnknown:
    return ReferenceUnknown(f"no model `{reference.familiar()}` in the store")
