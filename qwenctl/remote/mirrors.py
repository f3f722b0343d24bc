"""Mirrors before a registry: what they have comes from them, everything else from the registry.

    resolve, manifests, blobs    mirror → next mirror → … → the registry, whose error counts

A mirror's word for what a tag names is taken, so it needs the same trust as the registry (pin a digest where
it has less). For content its word counts for nothing: manifests are proved here, blobs by who receives them.
A mirror is sent only the credentials that are filed under its own host, and nothing is pushed to it.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import chain
from threading import Lock
from typing import Final, TypeVar
from urllib.parse import urlsplit

from qwenctl.errors import (
    BlobUnknown,
    IntegrityError,
    Interrupted,
    InvalidReference,
    InvalidSettings,
    QwenctlError,
    RangeIgnored,
    ReferenceUnknown,
    RemoteError,
)
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest, verify
from qwenctl.oci.manifest import MANIFEST_LIMIT
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Closing, Reader, Source, content_of, piece_of, read_bytes
from qwenctl.remote.client import Client
from qwenctl.remote.credentials import Credentials
from qwenctl.remote.repository import Repository, open_repository
from qwenctl.remote.retry import RetryPolicy
from qwenctl.remote.routes import is_loopback, networks_of
from qwenctl.remote.transport import Transport, origin
from qwenctl.settings import Settings

CONNECT_SECONDS: Final = 5.0
"""For a mirror: there is another place to ask."""
POLICY: Final = RetryPolicy(attempts=2, longest_seconds=1.0)

_ABSENCES: Final = (ReferenceUnknown, BlobUnknown)  # not NotFound: a CA bundle may be missing too
_REFUSALS: Final = (RemoteError, IntegrityError, *_ABSENCES)
_T = TypeVar("_T")


class Outages:
    """The mirrors that failed, each told once; nobody asks them again. Any thread may call."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._lock = Lock()
        self._mirrors: set[str] = set()

    def __contains__(self, mirror: str) -> bool:
        with self._lock:
            return mirror in self._mirrors

    def add(self, mirror: str, error: QwenctlError) -> None:
        """Leave `mirror` out from now on, unless it only has not got what was asked for."""
        if isinstance(error, (*_ABSENCES, RangeIgnored)):
            return
        with self._lock:
            known = mirror in self._mirrors
            self._mirrors.add(mirror)
        if not known:
            self._tell(f"the mirror `{mirror}` is left out: {error.message}")


class Mirrored:
    """One repository at its registry and at mirrors of it; see `Source` for the methods' contract.

    `mirrors` are asked in their order; `registry` is opened when it is first needed.
    """

    def __init__(
        self, mirrors: Mapping[str, Repository], registry: Callable[[], Repository], outages: Outages
    ) -> None:
        self._mirrors = mirrors
        self._registry = registry
        self._outages = outages
        self._asked: dict[Digest, set[str]] = {}

    @property
    def origin(self) -> str:
        """See `Located`: all ends that may have brought it."""
        return f"{', '.join(self._mirrors)} or the registry behind"

    def resolve(self, reference: Reference) -> Descriptor:
        """See `Source.resolve`: what the first end that knows the reference says."""
        return self._first(lambda end: end.resolve(reference))

    def exists(self, descriptor: Descriptor) -> bool:
        """See `Source.exists`, at any end."""
        for mirror, end in self._ends():
            try:
                if end.exists(descriptor):
                    return True
            except _REFUSALS as error:
                self._give_up(mirror, error)
        return False

    def fetch(self, descriptor: Descriptor, offset: int = 0, length: int | None = None) -> Reader:
        """See `Source.fetch`. A blob's reader goes on at the next end where one gives up."""
        if not descriptor.is_manifest:
            ends = self._noted(descriptor.digest)
            return _Relay(ends, self._give_up, descriptor, offset, length)

        def proved(end: Repository) -> bytes:
            raw = read_bytes(end.fetch(descriptor), min(descriptor.size, MANIFEST_LIMIT))
            return verify(raw, descriptor.digest, descriptor.size)

        return piece_of(content_of(self._first(proved))(offset), length)

    def distrust(self, descriptor: Descriptor, error: IntegrityError) -> bool:
        """See `Doubtable`: all mirrors that were asked for it are left out from now on."""
        asked = [mirror for mirror in self._asked.pop(descriptor.digest, ()) if mirror not in self._outages]
        for mirror in asked:
            self._outages.add(mirror, error)
        return bool(asked)

    def tags(self) -> Iterator[str]:
        """All tags of the repository at the first end that lists them. Raises: ReferenceUnknown."""

        def begun(end: Repository) -> Iterator[str]:
            tags = end.tags()
            first = next(tags, None)
            return tags if first is None else chain((first,), tags)

        return self._first(begun)

    def _first(self, ask: Callable[[Repository], _T]) -> _T:
        """The answer of the first end that has one. Raises: what the registry raises."""
        for mirror, end in self._ends():
            try:
                return ask(end)
            except _REFUSALS as error:
                self._give_up(mirror, error)
        raise AssertionError("the registry answers or raises")

    def _ends(self) -> Iterator[tuple[str | None, Repository]]:
        """The mirrors that did not fail so far, then the registry, which has no name here."""
        for mirror, repository in self._mirrors.items():
            if mirror not in self._outages:
                yield mirror, repository
        yield None, self._registry()

    def _noted(self, digest: Digest) -> Iterator[tuple[str | None, Repository]]:
        """As `_ends`, remembering which mirrors were asked for this content."""
        for mirror, end in self._ends():
            if mirror is not None:
                self._asked.setdefault(digest, set()).add(mirror)
            yield mirror, end

    def _give_up(self, mirror: str | None, error: QwenctlError) -> None:
        """Go on without `mirror`. Raises: `error` when it is the registry's."""
        if mirror is None:
            raise error
        self._outages.add(mirror, error)


class _Relay(Closing):
    """A blob from the first end that has it; from the position reached on from the next, where one gives up.

    Raises what the registry raises. Another thread may close it.
    """

    def __init__(
        self,
        ends: Iterator[tuple[str | None, Repository]],
        give_up: Callable[[str | None, QwenctlError], None],
        descriptor: Descriptor,
        offset: int,
        length: int | None,
    ) -> None:
        self._ends, self._give_up = ends, give_up
        self._descriptor = descriptor
        self._position = offset
        self._end = descriptor.size if length is None else min(descriptor.size, offset + length)
        self._whole = length is None
        self._closed = False
        self._mirror, self._reader = self._next()

    def readinto(self, buffer: memoryview, /) -> int:
        """See `Reader`."""
        while True:
            try:
                count = self._reader.readinto(buffer)
            except _REFUSALS as error:
                self._give_up(self._mirror, error)
                count = 0
            else:
                self._position += count
                if count or self._position >= self._end or self._mirror is None:
                    return count
            self._reader.close()
            self._mirror, self._reader = self._next()
            if self._closed:  # while the next end was being opened
                self._reader.close()

    def close(self) -> None:
        """See `Reader`."""
        self._closed = True
        self._reader.close()

    def _next(self) -> tuple[str | None, Reader]:
        """The next end's reader from here on."""
        length = None if self._whole else max(0, self._end - self._position)
        for mirror, end in self._ends:
            if self._closed:
                raise Interrupted("the download was closed")
            try:
                return mirror, end.fetch(self._descriptor, self._position, length)
            except _REFUSALS as error:
                self._give_up(mirror, error)
        raise AssertionError("the registry answers or raises")


def mirrors_of(registry: str, settings: Settings) -> tuple[str, ...]:
    """The mirrors of a registry, in their order, under whichever of its names. Raises: InvalidSettings."""
    found = (urls for name, urls in settings.mirrors.items() if _normal(name) == registry)
    return tuple(dict.fromkeys(chain.from_iterable(found)))


def _normal(registry: str) -> str:
    """The registry as references have it: Docker Hub has several names."""
    try:
        return Reference.parse(f"{registry}/any/name").registry
    except InvalidReference as error:
        raise InvalidSettings(f"`mirrors`: `{registry}` is not a registry") from error


@contextmanager
def open_mirrored(
    reference: Reference, settings: Settings, credentials: Credentials, outages: Outages
) -> Iterator[Source]:
    """Where `reference` is read from: its mirrors, then its registry; connections end with the block."""
    urls = mirrors_of(reference.registry, settings)
    with ExitStack() as opened:
        if not urls:
            yield opened.enter_context(open_repository(reference, settings, credentials))
            return
        transport = Transport(CONNECT_SECONDS, networks=networks_of(settings))
        opened.callback(transport.close)
        ends = {url: _open_mirror(url, reference, settings, credentials, transport) for url in urls}
        registry = _Once(lambda: opened.enter_context(open_repository(reference, settings, credentials)))
        yield Mirrored(ends, registry, outages)


def _open_mirror(
    url: str, reference: Reference, settings: Settings, credentials: Credentials, transport: Transport
) -> Repository:
    """The repository at a mirror: its path goes before the name.

    Without TLS it gets a credential only where plain HTTP was agreed to: on loopback, or listed as insecure.
    """
    parts = urlsplit(url)
    host, prefix = parts.netloc.lower(), parts.path.strip("/")
    name = f"{prefix}/{reference.repository}" if prefix else reference.repository
    agreed = parts.scheme == "https" or is_loopback(host) or host in settings.insecure_registries
    credential = credentials.find(host, name) if agreed else None
    return Repository(Client(transport, origin(url), credential, POLICY), name)


class _Once:
    """A repository that is opened at the first call; every thread gets the same."""

    def __init__(self, opened: Callable[[], Repository]) -> None:
        self._open = opened
        self._lock = Lock()
        self._repository: Repository | None = None

    def __call__(self) -> Repository:
        with self._lock:
            if self._repository is None:
                self._repository = self._open()
            return self._repository
