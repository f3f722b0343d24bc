"""Repair: bring single blobs back from where their models came from, proved like any download."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from threading import Event, Lock, Semaphore
from types import TracebackType
from typing import Final, Self

from qwenctl.errors import (
    AccessDenied,
    IntegrityError,
    NotFound,
    QwenctlError,
    RateLimited,
    RemoteError,
    Unauthorized,
    Unreachable,
)
from qwenctl.flows.copy import JOBS, CopyEvent, Observer, ignore, move
from qwenctl.flows.models import Model
from qwenctl.flows.side_by_side import side_by_side
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.reference import Reference
from qwenctl.oci.target import Source, content_of, read_verified
from qwenctl.store.store import Store

OpenSource = Callable[[Reference], AbstractContextManager[Source]]
"""Opens where a reference is pulled from."""

Wanted = tuple[Descriptor, Sequence[Model]]
"""A blob, and the models that need it."""

_REFUSED: Final = (NotFound, RemoteError, IntegrityError, AccessDenied)
_LASTING: Final = (Unreachable, Unauthorized, RateLimited)
"""Failures that the next blob of the same repository would meet again, after the same wait."""

Home = tuple[str, str]
"""A registry and a repository of it."""


class Repairer:
    """Fetches content again. A context manager: its connections end with the block."""

    def __init__(self, store: Store, open_source: OpenSource, observe: Observer = ignore) -> None:
        self._store = store
        self._open_source = open_source
        self._observe = observe
        self._lock = Lock()
        self._opened = ExitStack()
        self._sources: dict[Home, Source] = {}
        self._closed: dict[Home, QwenctlError] = {}
        self._manifests: dict[Digest, bytes] = {}
        self._spare = Semaphore(0)  # a connection a blob: what is damaged is rarely all

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def fetch_manifest(self, descriptor: Descriptor, models: Sequence[Model]) -> bytes | None:
        """A manifest, proved, from the first registry of the models that has it; None when none has.

        It is kept, and becomes part of the store by `restore`, after what it lists.
        """
        self._try_all(models, partial(self._keep, descriptor))
        return self._manifests.get(descriptor.digest)

    def restore(self, wanted: Sequence[Wanted]) -> dict[Digest, str | None]:
        """Fetch the blobs that are absent; for each why it could not be had, None when it is here now.

        Raises: DiskFull.
        """
        outcomes: dict[Digest, str | None] = {}

        def fetch(item: Wanted, stop: Event) -> None:
            descriptor, models = item
            outcomes[descriptor.digest] = self._try_all(models, partial(self._bring, descriptor, stop))

        manifests = {item[0].digest: item for item in wanted if item[0].is_manifest}
        blobs = sorted((item for item in wanted if not item[0].is_manifest), key=lambda item: -item[0].size)
        with self._store.protect([descriptor for descriptor, _ in wanted]):
            side_by_side(fetch, blobs, JOBS)
            for digest, (descriptor, models) in manifests.items():
                kept = digest in self._manifests
                outcomes[digest] = None if kept else self._try_all(models, partial(self._keep, descriptor))
            had = [item[0] for digest, item in manifests.items() if outcomes[digest] is None]
            outcomes |= self._take_in(had)
        return outcomes

    def _take_in(self, manifests: list[Descriptor]) -> dict[Digest, str | None]:
        """Push manifests that were fetched, each after those that it lists; what holds the others back."""
        outcomes: dict[Digest, str | None] = {}
        while manifests:
            left = []
            for descriptor in manifests:
                try:
                    self._store.push(descriptor, content_of(self._manifests[descriptor.digest]))
                    outcomes[descriptor.digest] = None
                except _REFUSED as error:
                    outcomes[descriptor.digest] = error.message
                    left.append(descriptor)
            if len(left) == len(manifests):
                break
            manifests = left
        return outcomes

    def _keep(self, descriptor: Descriptor, source: Source) -> None:
        self._manifests[descriptor.digest] = read_verified(source, descriptor)

    def _bring(self, descriptor: Descriptor, stop: Event, source: Source) -> None:
        move(source, self._store, descriptor, self._tell, stop, self._spare)

    def _try_all(self, models: Sequence[Model], act: Callable[[Source], None]) -> str | None:
        """Do it with the source of one model after the other until it succeeds; why it did not, else None."""
        references = {_home(model.reference): model.reference for model in models if model.reference}
        if not references:
            return "its name belongs to no registry"
        problems = []
        for home, reference in references.items():
            try:
                act(self._source(home, reference))
            except _REFUSED as error:
                if isinstance(error, _LASTING):
                    self._closed[home] = error
                problems.append(error.message)
            else:
                return None
        return "; ".join(dict.fromkeys(problems))

    def _source(self, home: Home, reference: Reference) -> Source:
        if home in self._closed:
            raise self._closed[home]
        with self._lock:
            if home not in self._sources:
                self._sources[home] = self._opened.enter_context(self._open_source(reference))
            return self._sources[home]

    def _tell(self, event: CopyEvent) -> None:
        with self._lock:
            self._observe(event)


def _home(reference: Reference) -> Home:
    return reference.registry, reference.repository
