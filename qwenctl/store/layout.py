"""The OCI image layout: where content is, and the index that names it.

    oci-layout                    marks the directory
    index.json                    one descriptor per tag; replaced as a whole, so readers never wait
    blobs/<algorithm>/<hex>       content, visible only when whole
    ingest/                       content that is not whole yet     ┐ ours; the specification
    leases/                       what running pulls rely on        │ lets other tools ignore
    .lock                         the one lock of the index         ┘ them

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
from typing import Any, Final

from qwenctl.errors import AccessDenied, InvalidReference, Malformed
from qwenctl.oci.descriptor import OCI_INDEX, REF_NAME, Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.store.disk import locked, translated, write_whole

REPOSITORY: Final = "org.qwenctl.repository"
"""Annotation of an index entry that keeps a manifest of this `registry/repository` without a tag."""

_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX_LIMIT: Final = 64 * 1024 * 1024  # bytes; about 200,000 tags


@dataclass(frozen=True, slots=True)
class Entry:
    """One descriptor of the index, and the JSON object that it came from, unknown fields included."""

    descriptor: Descriptor
    document: dict[str, Any]

    @classmethod
    def of(cls, descriptor: Descriptor) -> "Entry":
        """A new entry."""
        return cls(descriptor, descriptor.render())

    @property
    def reference(self) -> Reference | None:
        """The full name of this tag; None for an entry that is none, or whose name we cannot parse."""
        name = self.descriptor.annotations.get(REF_NAME)
        if name is None:
            return None
        try:
            return Reference.parse(name)
        except InvalidReference:
            return None


@dataclass(frozen=True, slots=True)
class IndexFile:
    """`index.json` as read: its entries and every other field."""

    entries: tuple[Entry, ...]
    rest: dict[str, Any]

    def render(self) -> bytes:
        """The bytes of the file."""
        document = {**self.rest, "manifests": [entry.document for entry in self.entries]}
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


Change = Callable[[tuple[Entry, ...]], tuple[Entry, ...]]


class Layout:
    """The paths and the index of one layout. Safe for several threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root

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

    def ensure(self) -> None:
        """Make the layout if it is not there. Raises: AccessDenied, DiskFull."""
        with translated(self.root):
            for directory in (self.blobs / "sha256", self.ingests, self.leases):
                directory.mkdir(parents=True, exist_ok=True)
            if not (self.root / "index.json").exists():
                with self.lock():
                    self._ensure_index()
            if not (self.root / "oci-layout").exists():
                write_whole(self.root / "oci-layout", _LAYOUT)

    def check(self) -> None:
        """Raises: Malformed when the directory is not an image layout of the version we know."""
        path = self.root / "oci-layout"
        try:
            version = json.loads(path.read_bytes()).get("imageLayoutVersion")
        except FileNotFoundError as error:
            raise Malformed(f"`{self.root}` is not an OCI image layout: it has no `oci-layout`") from error
        except (ValueError, AttributeError) as error:
            raise Malformed(f"`{path}` is damaged") from error
        except OSError as error:
            raise AccessDenied(f"`{path}` cannot be read: {error.strerror}") from error
        if version != "1.0.0":
            raise Malformed(f"`{path}` has version `{version}`, we know 1.0.0")

    def read(self) -> IndexFile:
        """The index at this moment. Raises: Malformed, naming the file."""
        path = self.root / "index.json"
        with translated(path):
            try:
                with path.open("rb") as file:
                    raw = file.read(_INDEX_LIMIT + 1)
            except FileNotFoundError as error:
                raise Malformed(f"`{path}` is missing", hint="it lists the models of the store") from error
        return _parse_index(raw, path)

    def change(self, change: Change) -> None:
        """Replace the entries by `change(entries)`, atomically, one process at a time."""
        with self.lock():
            self.change_locked(change)

    def change_locked(self, change: Change) -> None:
        """As `change`, for a caller that holds `lock` already."""
        before = self.read()
        after = change(before.entries)
        if after != before.entries:
            path = self.root / "index.json"
            with translated(path):
                write_whole(path, IndexFile(after, before.rest).render())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock of the index: for changes, and for what must not run beside one."""
        path = self.root / ".lock"
        with translated(path):
            guard = locked(path)
            guard.__enter__()
        try:
            yield
        finally:
            guard.__exit__(None, None, None)

    def _ensure_index(self) -> None:
        path = self.root / "index.json"
        if not path.exists():
            empty = IndexFile((), {"schemaVersion": 2, "mediaType": OCI_INDEX})
            write_whole(path, empty.render())


def _parse_index(raw: bytes, path: Path) -> IndexFile:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"`{path}` is not JSON") from error
    manifests = document.get("manifests") if isinstance(document, dict) else None
    if len(raw) > _INDEX_LIMIT or not isinstance(manifests, list):
        raise Malformed(f"`{path}` is not an image index")
    entries = tuple(
        Entry(Descriptor.parse(item, f"`{path}` manifests[{number}]"), item)
        for number, item in enumerate(manifests)
    )
    return IndexFile(entries, {key: value for key, value in document.items() if key != "manifests"})
