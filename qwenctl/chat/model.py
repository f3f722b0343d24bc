"""Whom a conversation is held with, as the terminal sees it; who sees to it is the caller's matter."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from qwenctl.runtime.engine import ChatRequest
from qwenctl.runtime.events import Event


class ChatModel(Protocol):
    """A model that answers, and can become another one."""

    @property
    def name(self) -> str:
        """The short name."""
        ...

    @property
    def context_length(self) -> int | None:
        """Tokens that the conversation may have; None where unknown."""
        ...

    @property
    def suggested(self) -> dict[str, float]:
        """The sampling that its maker suggests."""
        ...

    def chat(self, request: ChatRequest) -> Iterator[Event]:
        """The events of one answer. A generator: closing it stops the model. Raises: EngineError."""
        ...

    def about(self) -> list[tuple[str, str]]:
        """What there is to say about it, as names and values."""
        ...

    def template(self) -> str:
        """Its chat template; empty where it has none."""
        ...

    def names(self) -> Sequence[str]:
        """The models that one might go on with."""
        ...

    def switch(self, name: str) -> None:
        """Becomes the model of that name, loaded; what fails leaves the one before. Raises: QwenctlError."""
        ...

    def reload(self, context_tokens: int) -> None:
        """Loads it with this context length. Raises: QwenctlError."""
        ...
