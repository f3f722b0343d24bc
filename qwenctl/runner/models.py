"""Where the runner's models come from, and how each is to be loaded: roles that the program's outermost
layer fills, from the store and from what it knows of this machine.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.plan import Plan
from qwenctl.runner.configured import Configured
from qwenctl.runner.messages import LoadOptions
from qwenctl.runtime.engine import EngineOptions


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this machine, ready to be opened.

    `id` is the digest of its manifest: two names of one content share a worker. `splits` are the files that
    follow `path` where the weights are in several. `context_length` and
    `chat_template` are the artifact's own wishes; None leaves them to the GGUF file. `created_seconds`
    is counted from 1970, 0 where unknown. `sampling` is what the model's maker suggests, or the user has set;
    `configured` is all that the user has set.
    """

    name: str
    id: str
    path: Path
    splits: tuple[Path, ...] = ()
    context_length: int | None = None
    chat_template: str | None = None
    created_seconds: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict)
    configured: Configured = field(default_factory=Configured)


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


@dataclass(frozen=True, slots=True)
class LoadDecision:
    """How a model is opened. `plan` says what that takes; None where nobody can tell."""

    options: EngineOptions
    plan: Plan | None = None


class LoadPlanner(Protocol):
    """Decides how a model is opened. Called on threads of the runner; may block."""

    def decide(
        self,
        found: FoundModel,
        options: LoadOptions,
        held: Mapping[str, Estimate],
        leaving: Collection[str] = (),
    ) -> LoadDecision:
        """The decision for these wishes on this machine now.

        `held` is what each loaded model takes; those named in `leaving` count as gone already.
        Raises: MemoryShort with the numbers, unless the wishes say `force`; what the model's file raises.
        """
        ...


class Unplanned:
    """A `LoadPlanner` that looks at nothing: the wishes, and the engine's defaults."""

    def decide(
        self,
        found: FoundModel,
        options: LoadOptions,
        held: Mapping[str, Estimate],
        leaving: Collection[str] = (),
    ) -> LoadDecision:
        """See `LoadPlanner.decide`."""
        return LoadDecision(engine_options(found, options))


def engine_options(found: FoundModel, options: LoadOptions) -> EngineOptions:
    """The wishes for a model as the engine takes them."""
    wishes = EngineOptions(
        path=found.path,
        splits=found.splits,
        context_length=found.context_length,
        chat_template=found.chat_template,
    )
    given = options.given()
    if options.draft is not None:
        given["draft"] = Path(options.draft)
    return msgspec.structs.replace(wishes, **given)
