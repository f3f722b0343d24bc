"""What the doors ask of whoever runs the models."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, Protocol

from qwenctl.errors import InvalidRequest, UsageError
from qwenctl.runtime.engine import Embeddings, EmbedRequest, Request, RerankRequest, Scores
from qwenctl.runtime.events import Event
from qwenctl.units import parse_duration

KeepAlive = str | int | float | None
"""How clients say it: seconds, a text such as `5m`, anything negative for ever, None for no opinion."""

_FOREVER: Final = float("inf")


class ServedModel(Protocol):
    """A model that can be asked for, loaded or not."""

    @property
    def name(self) -> str:
        """The short name that resolves to it."""
        ...

    @property
    def id(self) -> str:
        """The digest that identifies its content."""
        ...

    @property
    def created_seconds(self) -> int:
        """When it was made, in seconds since 1970; 0 where unknown."""
        ...

    @property
    def sampling(self) -> Mapping[str, float]:
        """What its maker suggests, by the names of `Sampling`; empty where nothing is suggested."""
        ...


class ModelHost(Protocol):
    """Models by name, loaded as they are asked for. Every method belongs to one event loop."""

    async def models(self) -> Sequence[ServedModel]:
        """All that can be asked for."""
        ...

    async def find(self, name: str) -> ServedModel:
        """The model of this name. Raises: InvalidReference, ReferenceUnknown."""
        ...

    def generate(
        self, name: str, request: Request, *, keep_alive_seconds: float | None = None
    ) -> AsyncGenerator[Event]:
        """The events of `request` on a model, which is loaded first if need be; closing cancels.

        `keep_alive_seconds` is how long the model stays after this, infinity for ever; None leaves it as
        it is. Raises, while iterated: what `find` raises; LoadFailed and DoesNotFit from loading;
        InvalidRequest, PromptTooLong, GenerationFailed and WorkerDied from running.
        """
        ...

    async def count_tokens(self, name: str, request: Request) -> int:
        """The tokens of the prompt that `request` would run. Raises: as `generate`."""
        ...

    async def embed(
        self, name: str, request: EmbedRequest, *, keep_alive_seconds: float | None = None
    ) -> Embeddings:
        """The vectors of texts. Raises: as `generate`."""
        ...

    async def rerank(
        self, name: str, request: RerankRequest, *, keep_alive_seconds: float | None = None
    ) -> Scores:
        """The scores of documents. Raises: as `generate`."""
        ...


def keep_alive_seconds(value: KeepAlive, field: str = "keep_alive") -> float | None:
    """`value` of `field` in seconds. Raises: InvalidRequest when it is no duration."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            seconds = parse_duration(value.strip().removeprefix("-"))
        except UsageError as error:
            message = f"`{field}` is `{value[:100]}`, which is no duration"
            raise InvalidRequest(message, hint=error.hint) from error
        return _FOREVER if value.strip().startswith("-") else seconds
    return _FOREVER if value < 0 else float(value)
