"""`Store`: an OCI image layout as a Target, with names, links and removal."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from qwenctl.errors import BlobUnknown, Conflict, Malformed, ReferenceUnknown
from qwenctl.oci.descriptor import REF_NAME, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import MANIFEST_LIMIT, parse_document
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Content, Reader, read_bytes
from qwenctl.store.disk import translated
from qwenctl.store.ingest import ingest, present
from qwenctl.store.layout import REPOSITORY, Entry, Layout
from qwenctl.store.leases import lease


class Store:
    """Models on disk. Any number of threads and processes may use one store at the same time.

    Every method may raise AccessDenied, DiskFull (writing) and Malformed (a damaged index).
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Self:
        """The store at `path`, made if it is not there; a layout of another tool is one too.

        With `create` false nothing is written. Raises: Malformed when it is no image layout.
        """
        layout = Layout(path)
        if create:
            layout.ensure()
        layout.check()
        return cls(layout)

    @property
    def path(self) -> Path:
        """The directory of the layout."""
        return self.layout.root

    def entries(self) -> tuple[Entry, ...]:
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
        for tagged, descriptor in self.tags():
            if tagged == reference:
                return descriptor
        raise _unknown(reference)

    def find(self, prefix: str) -> tuple[Reference | None, Descriptor]:
        """The one model whose id begins with `prefix`, under its first tag (None when untagged).

        Raises: ReferenceUnknown for none, Conflict for several.
        """
        wanted = prefix.removeprefix("sha256:")
        found = [entry for entry in self.entries() if entry.descriptor.digest.hex.startswith(wanted)]
        if not found:
            raise ReferenceUnknown(f"no model with the id `{prefix}` in the store")
        if len({entry.descriptor.digest for entry in found}) > 1:
            raise Conflict(f"`{prefix}` begins the ids of several models", hint="give more digits")
        return found[0].reference, found[0].descriptor

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Source.exists`: by presence and size; the digest was proved when it came."""
        return present(self.layout, descriptor)

    def fetch(self, descriptor: Descriptor, offset: int = 0) -> Reader:
        """See `Source.fetch`."""
        path = self.layout.blob(descriptor.digest)
        with translated(path):
            try:
                file = path.open("rb", buffering=0)
            except FileNotFoundError as error:
                raise BlobUnknown(f"`{descriptor.digest}` is not in the store") from error
            file.seek(offset)
        return file

    def blob_path(self, descriptor: Descriptor) -> Path:
        """The file of some content, to be mapped, never changed. Raises: BlobUnknown."""
        if not self.exists(descriptor):
            raise BlobUnknown(f"`{descriptor.digest}` is not whole in the store", hint="pull the model again")
        return self.layout.blob(descriptor.digest)

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """See `Target.push`. A second process that pushes the same content waits and shares it."""
        ingest(self.layout, descriptor, content, lambda path: self._check_manifest(descriptor, path))

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """See `Target.tag`: one atomic replacement of the index."""
        name = _ref_name(reference)
        entry = Entry.of(descriptor.annotate(**{REF_NAME: name}))
        with self.layout.lock():
            self._require((descriptor,))
            self.layout.change_locked(
                lambda entries: (*(e for e in entries if not _is_tag(e, reference)), entry)
            )

    def untag(self, reference: Reference) -> Descriptor:
        """Take a name away; what it named. The content stays. Raises: ReferenceUnknown."""
        with self.layout.lock():
            gone = [e for e in self.entries() if _is_tag(e, reference)]
            if not gone:
                raise _unknown(reference)
            self.layout.change_locked(lambda all_: tuple(e for e in all_ if e not in gone))
        return gone[0].descriptor

    def link(self, descriptor: Descriptor, repository: str) -> None:
        """Keep a manifest without a tag, as part of `registry/repository`. Idempotent.

        Raises: BlobUnknown when the content is not here.
        """
        entry = Entry.of(descriptor.annotate(**{REPOSITORY: repository}))
        with self.layout.lock():
            self._require((descriptor,))
            self.layout.change_locked(
                lambda all_: all_ if _links(all_, descriptor.digest, repository) else (*all_, entry)
            )

    def unlink(self, digest: Digest, repository: str) -> None:
        """Take a link away; without effect when there is none."""
        self.layout.change(lambda all_: tuple(e for e in all_ if e not in _links(all_, digest, repository)))

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """See `Target.protect`: a lease that ends with the block, or with the process."""
        return lease(self.layout, [descriptor.digest for descriptor in descriptors])

    def _resolve_digest(self, digest: Digest) -> Descriptor:
        for entry in self.entries():
            if entry.descriptor.digest == digest:
                return entry.descriptor
        path = self.layout.blob(digest)
        try:
            raw = read_bytes(path.open("rb", buffering=0), MANIFEST_LIMIT)
            media_type = parse_document(raw).media_type
        except (FileNotFoundError, Malformed) as error:
            raise ReferenceUnknown(f"no model with the digest `{digest}` in the store") from error
        return Descriptor(media_type, digest, len(raw))

    def _check_manifest(self, descriptor: Descriptor, path: Path) -> None:
        if descriptor.is_manifest:
            raw = read_bytes(path.open("rb", buffering=0), MANIFEST_LIMIT)
            self._require(parse_document(raw, descriptor.media_type).successors)

    def _require(self, descriptors: Iterable[Descriptor]) -> None:
        for descriptor in descriptors:
            if not self.exists(descriptor):
                raise BlobUnknown(f"`{descriptor.digest}` is not in the store")


def _ref_name(reference: Reference) -> str:
    return f"{reference.registry}/{reference.repository}:{reference.tag}"


def _is_tag(entry: Entry, reference: Reference) -> bool:
    return entry.reference == reference


def _links(entries: tuple[Entry, ...], digest: Digest, repository: str) -> tuple[Entry, ...]:
    return tuple(
        entry
        for entry in entries
        if entry.descriptor.digest == digest and entry.descriptor.annotations.get(REPOSITORY) == repository
    )


def _unknown(reference: Reference) -> ReferenceUnknown:
    return ReferenceUnknown(f"no model `{reference.familiar()}` in the store")
