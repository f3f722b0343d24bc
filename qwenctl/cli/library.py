"""The runner's library: what a door may do to the user's store, by the flows that the commands use."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from qwenctl.api.library import (
    BlobAt,
    Json,
    ModelDetails,
    ModelSettings,
    Progress,
    Removed,
    Resolved,
    StoredModel,
    Transferred,
)
from qwenctl.cli.configure_values import change_settings
from qwenctl.cli.memory import open_machine
from qwenctl.cli.wiring import open_remote, open_source
from qwenctl.errors import (
    BlobUnknown,
    IntegrityError,
    Interrupted,
    MemoryShort,
    UsageError,
)
from qwenctl.flows.catalog import Catalog
from qwenctl.flows.copy import BlobFinished, BlobProgress, BlobShared, BlobSkipped, BlobStarted, CopyEvent
from qwenctl.flows.find import Found, find
from qwenctl.flows.fit import fit_before
from qwenctl.flows.header import read_file_header
from qwenctl.flows.models import models_of
from qwenctl.flows.pull import is_current, pull
from qwenctl.flows.push import push
from qwenctl.flows.remove import remove
from qwenctl.flows.spelling import parse_wanted, resolve
from qwenctl.flows.tag import tag
from qwenctl.flows.views import read_artifact, read_text, suggested_sampling
from qwenctl.model.artifact import ModelArtifact, Role
from qwenctl.model.gguf import Array, Value
from qwenctl.model.memory.words import shortage_text
from qwenctl.model.shape import Shape
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.digest import Digest
from qwenctl.oci.manifest import Manifest
from qwenctl.oci.reference import BUILT_IN, Reference
from qwenctl.oci.target import Source, read_document
from qwenctl.runner.configured import Configurations, Configured
from qwenctl.settings import Settings, also_insecure
from qwenctl.store.footprint import measure
from qwenctl.store.store import Store

PROGRESS_SECONDS: Final = 0.1
"""Between two words about one blob."""
TRANSFERS: Final = 3
"""Pulls and pushes at the same time; each moves several blobs. Further ones wait."""
STOP_SECONDS: Final = 0.2
"""Within this a transfer that waits for its turn ends, when nobody waits for it."""


class StoreLibrary:
    """An `api.library.Library` over the user's store."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalog = Catalog.open()
        self._store = Store.open(settings.store)
        self._configurations = Configurations(settings.state)
        self._turns = threading.Semaphore(TRANSFERS)

    async def models(self) -> Sequence[StoredModel]:
        """See `Library.models`; what is damaged is left out."""
        return await asyncio.to_thread(self._models)

    async def find(self, name: str) -> StoredModel:
        """See `Library.find`."""
        return await asyncio.to_thread(lambda: self._stored(self._found(name)))

    async def show(self, name: str) -> ModelDetails:
        """See `Library.show`."""
        return await asyncio.to_thread(lambda: self._details(self._found(name)))

    def pull(self, name: str, *, insecure: bool = False, force: bool = False) -> AsyncGenerator[Progress]:
        """See `Library.pull`."""
        return _told(partial(self._in_turn, partial(self._pull, name, insecure, force)))

    def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """See `Library.push`."""
        return _told(partial(self._in_turn, partial(self._push, name, insecure)))

    async def tag(self, source: str, target: str) -> StoredModel:
        """See `Library.tag`."""
        return await asyncio.to_thread(self._tag, source, target)

    async def remove(self, name: str, *, force: bool = False) -> Removed:
        """See `Library.remove`."""
        return await asyncio.to_thread(self._remove, name, force)

    async def disk_bytes(self) -> int:
        """See `Library.disk_bytes`."""
        usage = await asyncio.to_thread(self._store.usage)
        return usage.size_bytes + usage.partial_bytes + usage.damaged_bytes

    async def configure(self, name: str, *, context_length: int | None, keep_alive: str | None) -> None:
        """See `Library.configure`."""
        await asyncio.to_thread(self._configure, name, context_length, keep_alive)

    async def change(
        self, name: str, given: Mapping[str, Any], unset: Sequence[str], *, reset: bool = False
    ) -> ModelSettings:
        """See `Library.change`."""
        return await asyncio.to_thread(
            change_settings, name, given, unset, reset, self._settings, self._store, self._catalog
        )

    async def contexts(self) -> Mapping[str, int]:
        """See `Library.contexts`."""
        configured = await asyncio.to_thread(self._configurations.all)
        lengths = {key: one.options.context_length for key, one in configured.items()}
        return {key: length for key, length in lengths.items() if length is not None}

    def _found(self, name: str) -> Found:
        return find(name, self._store, self._catalog, self._settings.registry)

    def _reaching(self, reference: Reference, insecure: bool) -> Settings:
        return also_insecure(self._settings, (reference.registry,) if insecure else ())

    def _models(self) -> list[StoredModel]:
        stored = []
        for model in models_of(self._store.entries()):
            with suppress(BlobUnknown, IntegrityError):
                stored.append(self._stored(Found(model.reference, model.root)))
        return sorted(stored, key=lambda model: model.name)

    def _stored(self, found: Found) -> StoredModel:
        artifact = read_artifact(self._store, found.root)
        config, footprint = artifact.config, measure(self._store.blob_path(found.root))
        return StoredModel(
            name=found.name,
            reference=str(found.reference) if found.reference else "",
            id=str(found.root.digest),
            size_bytes=artifact.size_bytes,
            created_seconds=int(config.created.timestamp()) if config.created else 0,
            changed_seconds=footprint.changed_seconds if footprint else 0.0,
            format=config.format,
            architecture=config.architecture,
            parameters=config.parameters,
            quantization=config.quantization,
            context_length=config.context_length,
            summary=config.gguf or {},
        )

    def _details(self, found: Found) -> ModelDetails:
        artifact = read_artifact(self._store, found.root)
        shape = self._shape(artifact)
        texts = [read_text(self._store, layer) for layer in artifact.layers(Role.LICENSE)]
        templates = [read_text(self._store, layer) for layer in artifact.layers(Role.CHAT_TEMPLATE)]
        metadata = shape.header.metadata if shape else artifact.config.gguf or {}
        names = (str(name) for name, root in self._store.tags() if root.digest == found.root.digest)
        return ModelDetails(
            model=self._stored(found),
            names=tuple(names),
            metadata={key: _json(value) for key, value in metadata.items()},
            parameter_count=shape.parameters if shape else 0,
            template=templates[0] if templates else (shape and shape.chat_template) or "",
            license="\n".join(texts) or (shape and shape.license) or "",
            sampling=suggested_sampling(artifact.config),
            embeds=bool(shape and shape.number("pooling_type") is not None),
        )

    def _shape(self, artifact: ModelArtifact) -> Shape | None:
        paths = [self._store.blob_path(layer) for layer in artifact.layers(Role.WEIGHTS)]
        headers = [read_file_header(path)[0] for path in paths]
        return Shape.of(*headers) if headers else None

    def _tag(self, source: str, target: str) -> StoredModel:
        tagged, _ = tag(source, target, self._store, self._catalog, self._settings.registry)
        return self._stored(tagged)

    def _remove(self, name: str, force: bool) -> Removed:
        found = self._found(name)
        founds = [found]
        if found.by_id and force:
            same = [Found(tag, root) for tag, root in self._store.tags() if root.digest == found.root.digest]
            founds = same or founds
        removed = remove(founds, self._store)
        return Removed(tuple(item.name for item in founds), tuple(map(str, removed.digests)))

    def _configure(self, name: str, context_length: int | None, keep_alive: str | None) -> None:
        key = self._found(name).key

        def edit(before: Configured) -> Configured:
            options = replace(before.options, context_length=context_length)
            return replace(before, options=options, keep_alive=keep_alive or before.keep_alive)

        self._configurations.change(key, edit)

    def _in_turn(self, work: Callable[["_Line"], None], line: "_Line") -> None:
        """`work`, once fewer than so many others are at it."""
        while not self._turns.acquire(timeout=STOP_SECONDS):
            line.go_on()
        try:
            work(line)
        finally:
            self._turns.release()

    def _pull(self, name: str, insecure: bool, force: bool, line: "_Line") -> None:
        from qwenctl.cli.output import complain
        from qwenctl.remote.mirrors import Outages

        reference = parse_wanted(name, self._catalog, self._settings.registry)
        settings = self._reaching(reference, insecure)
        outages = Outages(complain)  # a mirror that failed is asked again by the next pull
        with open_source(reference, settings, self._catalog, outages) as source:
            reference, root = resolve(reference, source, self._catalog, self._store)
            if not force and not is_current(reference, root, self._store):
                self._refuse_too_large(reference, root, source)
            line.put(_resolved(root, self._store if self._store.exists(root) else source))
            pulled = pull(reference, source, self._store, line.observe, root)
        line.put(Transferred(reference.familiar(), str(root.digest), pulled.moved_bytes))

    def _refuse_too_large(self, reference: Reference, root: Descriptor, source: Source) -> None:
        """Raises: MemoryShort, with both numbers, for a model that this machine has no room for."""
        verdict = fit_before(reference, root, source, open_machine(self._settings))
        if verdict is not None and verdict.shortage is not None:
            raise MemoryShort(
                shortage_text(verdict.name, verdict.shortage),
                hint=f"`qwenctl fit {verdict.name} --all` shows the variants that fit, `qwenctl pull "
                f"{verdict.name} --force` takes it all the same",
            )

    def _push(self, name: str, insecure: bool, line: "_Line") -> None:
        found = self._found(name)
        reference = found.reference
        if reference is None or reference.registry == BUILT_IN:
            raise UsageError(
                f"`{found.name}` belongs to no registry that can be pushed to",
                hint=f"`qwenctl tag {found.name} HOST/NAME[:TAG]` first",
            )
        line.put(_resolved(found.root, self._store))
        with open_remote(reference, self._reaching(reference, insecure), self._store) as repository:
            copied = push(found, reference, self._store, repository, line.observe)
        line.put(Transferred(found.name, str(found.root.digest), copied.moved_bytes))


class _Line:
    """The way from the thread of a transfer to the loop that waits for its words."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Progress | BaseException | None] = asyncio.Queue()
        self.stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._told_seconds: dict[Digest, float] = {}

    def put(self, item: Progress | BaseException | None) -> None:
        """From the thread: the next word; None is the end."""
        with suppress(RuntimeError):  # the loop ended, and with it everybody who waits
            self._loop.call_soon_threadsafe(self.inbox.put_nowait, item)

    def go_on(self) -> None:
        """From the thread. Raises: Interrupted once nobody waits any more."""
        if self.stop.is_set():
            raise Interrupted("the client left; what was downloaded is kept")

    def observe(self, event: CopyEvent) -> None:
        """From the thread: a `flows.copy.Observer`. Raises: Interrupted once nobody waits any more."""
        self.go_on()
        match event:
            case BlobStarted(descriptor, offset):
                self._tell(descriptor, offset)
            case BlobProgress(descriptor, position) | BlobShared(descriptor, position):
                now = time.monotonic()
                if now - self._told_seconds.get(descriptor.digest, 0.0) >= PROGRESS_SECONDS:
                    self._told_seconds[descriptor.digest] = now
                    self._tell(descriptor, min(position, descriptor.size))
            case BlobFinished(descriptor) | BlobSkipped(descriptor):
                self._tell(descriptor, descriptor.size)
            case _:
                return

    def _tell(self, descriptor: Descriptor, position: int) -> None:
        self.put(BlobAt(str(descriptor.digest), descriptor.size, position))


async def _told(work: Callable[[_Line], None]) -> AsyncGenerator[Progress]:
    """What `work` says, on a thread of its own: it may take hours. Closing stops it at its next event.

    The thread is a daemon: the end of the runner must not wait for a registry that does not answer.
    """
    line = _Line()

    def run() -> None:
        try:
            work(line)
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            line.put(error)
        else:
            line.put(None)

    threading.Thread(target=run, daemon=True, name="transfer").start()
    try:
        while (item := await line.inbox.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        line.stop.set()


def _resolved(root: Descriptor, source: Source) -> Resolved:
    """What the manifest says; of an index nothing is known but its id."""
    document = read_document(source, root)
    size = document.content_size if isinstance(document, Manifest) else 0
    return Resolved(str(root.digest), size)


def _json(value: Value) -> Json:
    if isinstance(value, Array):
        return None if value.elements is None else list(value.elements)
    return value
