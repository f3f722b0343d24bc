"""What the doors may do to the models that are kept here, and to those that are in memory."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from qwenctl.errors import Conflict

Json = str | int | float | bool | list[str | int | float | bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredModel:
    """A model under one of its names. Empty text, 0 and None are what it does not say of itself.

    `name` is the short name, `reference` the full one, `id` the digest of its manifest. Seconds count from
    1970: when it was made, and when it came here. `summary` are GGUF keys from its config.
    """

    name: str
    reference: str
    id: str
    size_bytes: int = 0
    created_seconds: int = 0
    changed_seconds: float = 0.0
    format: str = ""
    architecture: str = ""
    parameters: str = ""
    quantization: str = ""
    context_length: int | None = None
    summary: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDetails:
    """All that a stored model says of itself.

    `names` are all full names of this content. `metadata` are the keys of its GGUF file, None for arrays that
    are long. `parameter_count` is the number of its weights. `sampling` is what its maker suggests. It
    `embeds` rather than speaks when its file names a pooling.
    """

    model: StoredModel
    names: tuple[str, ...]
    metadata: Mapping[str, Json]
    parameter_count: int
    template: str
    license: str
    sampling: Mapping[str, float]
    embeds: bool


@dataclass(frozen=True, slots=True)
class Resolved:
    """A transfer begins: what the name means there, and how many bytes it has with all it needs."""

    id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BlobAt:
    """So many bytes of a blob are where they shall be."""

    digest: str
    size_bytes: int
    position_bytes: int


@dataclass(frozen=True, slots=True)
class Transferred:
    """The end of a transfer that went well; `moved_bytes` came, or went, just now."""

    name: str
    id: str
    moved_bytes: int


Progress = Resolved | BlobAt | Transferred


@dataclass(frozen=True, slots=True)
class Removed:
    """The names that are gone, and the digests of the content that went with them."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What is set for a model, by the names of `configure`'s options, and the name that it is filed under."""

    name: str
    reference: str
    values: Mapping[str, Any]


class Library(Protocol):
    """The user's store. Names are what a person types. Every method belongs to one event loop."""

    async def models(self) -> Sequence[StoredModel]:
        """All models, one for each name, by name."""
        ...

    async def find(self, name: str) -> StoredModel:
        """The model of this name or id. Raises: InvalidReference, ReferenceUnknown."""
        ...

    async def show(self, name: str) -> ModelDetails:
        """Everything about it. Raises: as `find`; BlobUnknown, IntegrityError for a damaged one."""
        ...

    def pull(self, name: str, *, insecure: bool = False, force: bool = False) -> AsyncGenerator[Progress]:
        """Brings a model here; `Resolved` first, `Transferred` last. Closing it stops, and keeps what came.

        `insecure` allows plain HTTP and certificates that nobody vouches for; `force` brings what does not
        fit this machine, too.

        Raises, while iterated: InvalidReference, ReferenceUnknown, RemoteError, IntegrityError, DiskFull;
        MemoryShort before anything is downloaded.
        """
        ...

    def push(self, name: str, *, insecure: bool = False) -> AsyncGenerator[Progress]:
        """Sends a model to the registry in its name; as `pull`. Raises: UsageError where there is none."""
        ...

    async def tag(self, source: str, target: str) -> StoredModel:
        """Gives a model another name; the model under it. Raises: as `find`; InvalidReference."""
        ...

    async def remove(self, name: str, *, force: bool = False) -> Removed:
        """Takes a name away, and frees what no other name needs.

        Raises: as `find`; Conflict for an id with several names, unless `force` removes them all.
        """
        ...

    async def disk_bytes(self) -> int:
        """What all of it takes on disk."""
        ...

    async def configure(self, name: str, *, context_length: int | None, keep_alive: str | None) -> None:
        """From its next load on the model has this context, None for its own, and stays for `keep_alive`,
        None for as long as it did. It holds until it is set otherwise. Raises: as `find`; InvalidSettings.
        """
        ...

    async def change(
        self, name: str, given: Mapping[str, Any], unset: Sequence[str], *, reset: bool = False
    ) -> ModelSettings:
        """What is set for the model after this is `given`, that `unset`, and all else taken back by `reset`.

        Raises: as `find`; UsageError for names and values that cannot be; InvalidSettings, FileMissing.
        """
        ...

    async def contexts(self) -> Mapping[str, int]:
        """The contexts that are set, by the full names of the models."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model in memory, or on its way. What is not known yet, or to nobody, is None or empty.

    `requests` are on it now; `expires_seconds` from now it leaves, None while it works or for ever.
    `memory_bytes` counts `device_bytes`, those on GPUs.
    """

    name: str
    id: str
    ready: bool
    requests: int = 0
    expires_seconds: float | None = None
    context_length: int | None = None
    memory_bytes: int = 0
    device_bytes: int = 0
    architecture: str = ""
    parameters: int = 0
    quantization: str = ""


class Residents(Protocol):
    """The models in memory. Every method belongs to one event loop."""

    async def loaded(self) -> Sequence[Resident]:
        """Those that are there, or on their way."""
        ...

    async def load(
        self, name: str, *, context_length: int | None = None, keep_alive_seconds: float | None = None
    ) -> None:
        """Loads it, unless it is there so already, and waits for that; one that idles otherwise is replaced.

        Raises: InvalidReference, ReferenceUnknown; Conflict when it works otherwise; LoadFailed, DoesNotFit.
        """
        ...

    async def stop(self, name: str | None) -> Sequence[str]:
        """Unloads a model (None: all), at work or not; the names of those that left. Raises: as `load`."""
        ...


async def remove(name: str, library: Library, residents: Residents, *, force: bool = False) -> Removed:
    """Removes a name; a model that loses its last one leaves memory before.

    Raises: as `Library.remove`; Conflict for a model at work, unless `force`.
    """
    found = await library.find(name)
    names = [model for model in await library.models() if model.id == found.id]
    resident = next((item for item in await residents.loaded() if item.id == found.id), None)
    if resident and (force or len(names) < 2):
        if resident.requests and not force:
            raise Conflict(f"`{found.name}` works on {resident.requests} requests", hint="try again later")
        await residents.stop(found.id)
    return await library.remove(name, force=force)
