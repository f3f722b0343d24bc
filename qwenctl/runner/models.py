"""Where the runner's models come from: a role that the program's outermost layer fills from the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this machine, ready to be opened.

    `id` is the digest of its manifest: two names of one content share a worker. `context_length` and
    `chat_template` are the artifact's own wishes; None leaves them to the GGUF file. `created_seconds`
    is counted from 1970, 0 where unknown. `sampling` is what the model's maker suggests.
    """

    name: str
    id: str
    path: Path
    context_length: int | None = None
    chat_template: str | None = None
    created_seconds: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict)


class ModelSource(Protocol):
    """Finds models by name. Called on threads of the runner, several at a time; may block on the disk."""

    def find(self, name: str) -> FoundModel:
        """The model that `name` means now; a tag may have moved since the last call.

        Raises: InvalidReference, ReferenceUnknown.
        """
        ...

    def models(self) -> Sequence[FoundModel]:
        """All models, in the order to show them."""
        ...
