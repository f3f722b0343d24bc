"""The OCI image layout: where content is, and the index that names it.

    oci-layout                    marks the directory
    index.json                    one descriptor per name; replaced as a whole, so readers never wait
    blobs/<algorithm>/<hex>       content, visible only when whole
    ingest/                       content that is not whole yet     ┐ ours, made when needed; the
    leases/                       what running pulls rely on        │ specification lets other tools
    .lock                         the one lock of the index         ┘ ignore them

A tag is an entry whose `org.opencontainers.image.ref.name` is the full name, `docker.io/ai/qwen2.5:latest`.
A manifest that must be kept without a tag carries `org.qwenctl.repository` instead. Entries and fields
of other tools survive every rewrite.

Source: OCI image-spec v1.1, image-layout.md.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from qwenctl.errors import Conflict, FileMissing, InvalidReference, Malformed
from qwenctl.oci.descriptor import OCI_INDEX, REF_NAME, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.store.disk import Disk, locked, translated

REPOSITORY: Final = "org.qwenctl.repository"
"""Annotation of an index entry that keeps a manifest of this `registry/repository` without a tag."""

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_LAYOUT_LIMIT: Final = 64 * 1024  # bytes
_INDEX_LIMIT: Final = 64 * 1024 * 1024  # bytes; about 200,000 tags
_OURS: Final = frozenset({"blobs", "index.json", "ingest", "leases", "lost+found"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the index: some content, and the name or the repository that keeps it.

    `document` is the JSON object as it was read: unknown fields are in there alone.
    """

    descriptor: Descriptor
    name: str | None
    repository: str | None
    document: dict[str, Any]

    @classmethod
    def parse(cls, document: object, where: str) -> Self:
        """The entry in a decoded JSON object. Raises: Malformed, naming `where`."""
        listed = Descriptor.parse(document, where)
        assert isinstance(document, dict)
        name, repository = listed.annotations.get(REF_NAME), listed.annotations.get(REPOSITORY)
        return cls(listed.annotate(**_foreign(listed)), name, repository, document)

    @classmethod
    def tag(cls, descriptor: Descriptor, name: str) -> Self:
        """A new entry that gives content a full name."""
        return cls(descriptor, name, None, _annotated(descriptor, REF_NAME, name))

    @classmethod
    def link(cls, descriptor: Descriptor, repository: str) -> Self:
        """A new entry that keeps content without a tag."""
        return cls(descriptor, None, repository, _annotated(descriptor, REPOSITORY, repository))

    @property
    def reference(self) -> Reference | None:
        """The full name of this tag; None when it has none, or another tool's short one (`latest`)."""
        if self.name is None:
            return None
        try:
            reference = Reference.parse(self.name)
        except InvalidReference:
            return None
        return reference if str(reference) == self.name and not reference.pinned else None


def _annotated(descriptor: Descriptor, key: str, text: str) -> dict[str, Any]:
    return descriptor.annotate(**_foreign(descriptor), **{key: text}).render()


def _foreign(descriptor: Descriptor) -> dict[str, str]:
    """The annotations that are not the layout's own."""
    return {key: text for key, text in descriptor.annotations.items() if key not in (REF_NAME, REPOSITORY)}


Entries = tuple[Entry, ...]
Change = Callable[[Entries], Entries]


@dataclass(frozen=True, slots=True)
class IndexFile:
    """`index.json` as read: its entries and every other field."""

    entries: Entries
    rest: dict[str, Any]

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Self:
        """The index in a file's bytes. Raises: Malformed, naming `where`."""
        try:
            document = json.loads(raw) if len(raw) <= _INDEX_LIMIT else None
        except (ValueError, RecursionError) as error:
            raise Malformed(f"{where} is not JSON") from error
        manifests = document.get("manifests") if isinstance(document, dict) else None
        if document is None or not isinstance(manifests, list):
            raise Malformed(f"{where} is not an image index")
        entries = (Entry.parse(item, f"{where} manifests[{n}]") for n, item in enumerate(manifests))
        return cls(tuple(entries), {key: value for key, value in document.items() if key != "manifests"})

    def render(self) -> bytes:
        """The bytes of the file."""
        document = {**self.rest, "manifests": [entry.document for entry in self.entries]}
        return json.dumps(document, indent=1).encode() + b"\n"


class Layout:
    """The paths and the index of one layout. Safe for several threads and processes."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self.disk = disk or Disk()

    @property
    def blobs(self) -> Path:
        """The directory of all content."""
        return self.root / "blobs"

    @property
    def ingests(self) -> Path:
        """The directory of content that is not whole yet."""
        return self.root / "ingest"

    @property
    def leases(self) -> Path:
        """The directory of what running pulls rely on."""
        return self.root / "leases"

    def blob(self, digest: Digest) -> Path:
        """Where content of this digest is, or would be."""
        return self.blobs / digest.algorithm / digest.hex

    def partial(self, digest: Digest) -> Path:
        """Where content of this digest grows until it is whole."""
        return self.ingests / f"{digest.algorithm}-{digest.hex}"

    def ensure(self) -> None:
        """Make the layout if it is not there; `oci-layout` comes last, so that a half-made one is finished.

        Raises: AccessDenied, DiskFull, and Conflict for a directory that holds something else.
        """
        marker, index = self.root / "oci-layout", self.root / "index.json"
        with translated(self.root):
            if marker.exists():
                return
            self.root.mkdir(parents=True, exist_ok=True)
            strange = [p.name for p in self.root.iterdir() if p.name not in _OURS and p.name[0] != "."]
        if strange and not marker.exists():
            raise Conflict(
                f"`{self.root}` is no store and holds `{min(strange)}`", hint="choose an empty directory"
            )
        with self.lock():
            self.disk.make_directory(self.blobs / "sha256")
            if not index.exists():
                empty = IndexFile((), {"schemaVersion": 2, "mediaType": OCI_INDEX})
                self.disk.replace_file(index, empty.render())
            if not marker.exists():
                self.disk.replace_file(marker, _LAYOUT)

    def check(self) -> None:
        """Raises: FileMissing without the directory, Malformed when it is no layout of a version we know."""
        path = self.root / "oci-layout"
        raw = _read(path, _LAYOUT_LIMIT)
        if raw is None:
            if not self.root.exists():
                raise FileMissing(f"there is no store at `{self.root}`")
            raise Malformed(f"`{self.root}` is not an OCI image layout: it has no `oci-layout`")
        try:
            document = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Malformed(f"`{path}` is not JSON") from error
        version = document.get("imageLayoutVersion") if isinstance(document, dict) else None
        if version != "1.0.0":
            raise Malformed(f"`{path}` has version {version!r}, not '1.0.0'")

    def read(self) -> IndexFile:
        """The index at this moment. Raises: Malformed, naming the file."""
        path = self.root / "index.json"
        raw = _read(path, _INDEX_LIMIT)
        if raw is None:
            raise Malformed(f"`{path}` is missing", hint="it lists the models of the store")
        return IndexFile.parse(raw, f"`{path}`")

    def change(self, change: Change) -> None:
        """Replace the entries by `change(entries)`, atomically, one process at a time. Raises: Conflict."""
        with self.lock():
            self.change_locked(change)

    def change_locked(self, change: Change) -> None:
        """As `change`, for a caller that holds `lock` already."""
        before = self.read()
        after = change(before.entries)
        if after != before.entries:
            raw = IndexFile(after, before.rest).render()
            if len(raw) > _INDEX_LIMIT:
                raise Conflict(
                    "the index of the store would be too large to be read", hint="remove names first"
                )
            self.disk.replace_file(self.root / "index.json", raw)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock of the index: for changes, and for what must not run beside one.

        Not to be taken twice by one thread.
        """
        with locked(self.root / ".lock"):
            yield


def _read(path: Path, limit: int) -> bytes | None:
    """The start of a file, at most one byte more than `limit`; None when there is no such file."""
    with translated(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            return file.read(limit + 1)
