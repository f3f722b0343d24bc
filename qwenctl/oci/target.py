"""The roles that hold content, and the one in memory.

Everything that moves content is written against `Source` and `Target`; a store on disk, a repository
behind the network and `MemoryTarget` keep the same contract (`tests/contracts/target.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from threading import Lock
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from qwenctl.errors import BlobUnknown, IntegrityError, Malformed, ReferenceUnknown
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest, Verifier, verify
from qwenctl.oci.manifest import MANIFEST_LIMIT, Document, parse_document
from qwenctl.oci.reference import Reference

PIECE: Final = 1 << 20
"""Bytes moved at a time: large enough that neither a system call nor the interpreter lock counts."""


class Reader(Protocol):
    """Bytes in order. The caller closes it."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the front of `buffer`; the number of bytes, 0 only at the end."""
        ...

    def close(self) -> None:
        """Release file or connection; also in the middle. Idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None: ...


class Closing:
    """What a `Reader` needs beside `readinto` and `close` to be one: the end of a block closes it."""

    def close(self) -> None:
        """See `Reader`."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Content = Callable[[int], Reader]
"""Reopenable content: called with an offset in bytes, it gives a reader of the rest from there."""


@runtime_checkable
class Divisible(Protocol):
    """Content of which several pieces may come side by side, over more connections than one.

    `borrow` asks for one more beside the one that everybody has; who got it gives it back.
    """

    def __call__(self, offset: int, /) -> Reader:
        """As `Content`."""
        ...

    def piece(self, offset: int, length: int) -> Reader:
        """A reader of `length` bytes from `offset` on."""
        ...

    def borrow(self) -> bool:
        """Whether one more reader may be open now."""
        ...

    def give_back(self) -> None:
        """One of the borrowed readers is closed for good."""
        ...

    def begin(self, kept_bytes: int) -> None:
        """Told before the first reader is opened: so many bytes are here already; again when all is lost."""
        ...

    def wait(self, here_bytes: int) -> None:
        """Told now and then while another process brings the same content, of which so much is here.

        Raises: Interrupted when nobody waits for it any more.
        """
        ...


class Source(Protocol):
    """Where content can be had from. All methods may be called from several threads."""

    def resolve(self, reference: Reference) -> Descriptor:
        """The descriptor of the manifest or index that `reference` names at this moment.

        Raises: ReferenceUnknown when there is none.
        """
        ...

    def exists(self, descriptor: Descriptor) -> bool:
        """Whether the content is here whole: of this digest, with this size."""
        ...

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """The content from byte `offset` on, *not yet verified*; the caller closes the reader.

        With a `length` it is a piece of at most so many bytes, and no more than that is transferred.
        `offset` equal to the size gives an empty reader. Raises: BlobUnknown; RangeIgnored for a piece
        behind the front that cannot be had without all that is before it.
        """
        ...


@runtime_checkable
class Located(Protocol):
    """A source that errors about its content should name."""

    @property
    def origin(self) -> str:
        """Where the content comes from, for a person."""
        ...


@runtime_checkable
class Doubtable(Protocol):
    """A source that has its content from several places."""

    def distrust(self, descriptor: Descriptor, error: IntegrityError) -> bool:
        """Leave out what may have brought this content, which was wrong; whether somebody else is left."""
        ...


@contextmanager
def blamed(source: object) -> Iterator[None]:
    """Lets the error about content that is not what it should be name where it came from."""
    try:
        yield
    except IntegrityError as error:
        if not isinstance(source, Located) or source.origin in error.message:
            raise
        raise type(error)(f"{error.message}, from `{source.origin}`", hint=error.hint) from error


class Target(Source, Protocol):
    """Where content can be put. Nothing is visible before it is whole and verified."""

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """Put content here, verified against `descriptor`; at once if it is here already.

        The target asks `content` for the offset that it needs: one that kept part of an earlier
        attempt asks for the rest. A manifest is accepted only after its successors.

        Raises: SizeMismatch, DigestMismatch; nothing is visible then. BlobUnknown for a manifest
        with a successor that is absent. Errors of `content` pass through.
        """
        ...

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """Make `reference` (its tag) name this content from now on. Idempotent, atomic.

        Raises: BlobUnknown when the content is not here.
        """
        ...

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """Keep this content, present or still to come, from being collected while the block runs."""
        ...


def read_bytes(reader: Reader, limit: int) -> bytes:
    """All bytes of `reader`, at most one more than `limit`; closes it."""
    pieces = bytearray()
    with reader:
        buffer = memoryview(bytearray(min(PIECE, limit + 1)))
        while len(pieces) <= limit and (count := reader.readinto(buffer)):
            pieces += buffer[:count]
    return bytes(pieces)


def read_verified(source: Source, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
    """Small content, whole and proved. Raises: BlobUnknown, SizeMismatch, DigestMismatch."""
    size = min(descriptor.size, limit)
    with blamed(source):
        return verify(read_bytes(source.fetch(descriptor), size), descriptor.digest, descriptor.size)


def read_document(source: Source, descriptor: Descriptor) -> Document:
    """The manifest or index that `descriptor` names, proved and parsed. Raises: Malformed too."""
    raw = read_verified(source, descriptor)
    with blamed(source):
        return parse_document(raw, descriptor.media_type)


def content_of(raw: bytes) -> Content:
    """Bytes in memory as reopenable content."""

    def reopen(offset: int) -> Reader:
        reader = BytesIO(raw)
        reader.seek(offset)
        return reader

    return reopen


def piece_of(reader: Reader, length: int | None) -> Reader:
    """At most `length` bytes from the front of `reader`, which is closed with it; None for all."""
    return reader if length is None else _Piece(reader, length)


class _Piece(Closing):
    """The front of a reader."""

    def __init__(self, reader: Reader, length: int) -> None:
        self._reader = reader
        self._left = length

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`."""
        count = self._reader.readinto(buffer[: self._left]) if self._left > 0 else 0
        self._left -= count
        return count

    def close(self) -> None:
        """See `Reader`."""
        self._reader.close()


class MemoryTarget:
    """A target in memory: for tests, and for artifacts that are being made."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._content: dict[Digest, bytes] = {}
        self._tags: dict[str, Descriptor] = {}

    def resolve(self, reference: Reference) -> Descriptor:
        """See `Source.resolve`; a digest resolves to a manifest that was pushed here."""
        found = self._tags.get(str(reference))
        if reference.digest is not None:
            found = self._manifest(reference.digest)
        if found is None:
            raise ReferenceUnknown(f"`{reference}` is not here")
        return found

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Source.exists`."""
        raw = self._content.get(descriptor.digest)
        return raw is not None and len(raw) == descriptor.size

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Source.fetch`."""
        raw = self._content.get(descriptor.digest)
        if raw is None:
            raise BlobUnknown(f"`{descriptor.digest}` is not here")
        return piece_of(content_of(raw)(offset), length)

    def push(self, descriptor: Descriptor, content: Content) -> None:
        """See `Target.push`."""
        if self.exists(descriptor):
            return
        verifier, pieces = Verifier(descriptor.digest, descriptor.size), bytearray()
        with content(0) as reader:
            buffer = memoryview(bytearray(PIECE))
            while count := reader.readinto(buffer):
                verifier.update(buffer[:count])
                pieces += buffer[:count]
        verifier.finish()
        raw = bytes(pieces)
        if descriptor.is_manifest:
            self._require(parse_document(raw, descriptor.media_type).successors)
        with self._lock:
            self._content[descriptor.digest] = raw

    def tag(self, descriptor: Descriptor, reference: Reference) -> None:
        """See `Target.tag`."""
        self._require((descriptor,))
        with self._lock:
            self._tags[str(reference)] = descriptor

    def protect(self, descriptors: Iterable[Descriptor]) -> AbstractContextManager[None]:
        """See `Target.protect`: nothing is ever collected here."""
        return nullcontext()

    def _require(self, descriptors: Iterable[Descriptor]) -> None:
        for descriptor in descriptors:
            if descriptor.is_distributable and not self.exists(descriptor):
                raise BlobUnknown(f"`{descriptor.digest}` is not here")

    def _manifest(self, digest: Digest) -> Descriptor | None:
        raw = self._content.get(digest)
        if raw is None:
            return None
        try:
            return Descriptor(parse_document(raw).media_type, digest, len(raw))
        except Malformed:
            return None  # a blob, not a manifest
