"""A model that `run` talks to, loaded in its runner."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from qwenctl.cli.model_place import Place, StoredModel
from qwenctl.cli.output import complain

if TYPE_CHECKING:
    from qwenctl.runner.messages import LoadedStatus, LoadOptions
    from qwenctl.runtime.engine import ChatRequest
    from qwenctl.runtime.events import Event


class RunnerModel:
    """`chat.model.ChatModel` in a runner; that of this machine is started when it is needed."""

    def __init__(
        self,
        stored: StoredModel,
        options: "LoadOptions",
        keep_alive_seconds: float | None,
        place: Place,
    ) -> None:
        self._stored, self._options, self._place = stored, options, place
        self._keep_alive_seconds = keep_alive_seconds
        self._runner = place.open_runner()
        self._status: LoadedStatus | None = None

    @property
    def name(self) -> str:
        """The short name."""
        return self._stored.name

    @property
    def id(self) -> str:
        """The digest of its manifest."""
        return self._stored.id

    @property
    def suggested(self) -> dict[str, float]:
        """See `ChatModel`."""
        return self._stored.suggested

    @property
    def context_length(self) -> int | None:
        """See `ChatModel`; known once it is loaded."""
        model = self._status.model if self._status else None
        return model.context_length if model else None

    def load(self) -> None:
        """Loads it, with what was wished, and tells a person at a terminal what that took.

        Raises: what `RunnerClient.load` raises.
        """
        from qwenctl.model.memory.words import load_line

        with self.loading():
            self._status = self._runner.load(self.name, self._options, self._keep_alive_seconds)
        if not sys.stderr.isatty():
            return
        if self._status.plan is not None:
            complain(load_line(self._quantization, self._status.plan))
        for note in self._status.model.notes if self._status.model else ():
            complain(note)

    @property
    def _quantization(self) -> str:
        model = self._status.model if self._status else None
        return self._stored.quantization or (model.quantization if model else "")

    def must_be_loaded_first(self) -> bool:
        """Whether a request alone would not do: there are wishes, or somebody watches."""
        return bool(self._options.given()) or self._options.force or sys.stderr.isatty()

    def loading(self) -> AbstractContextManager[None]:
        """Shows that the model is loaded, or what it waits for, while the block runs."""
        from qwenctl.cli.load_wait import told_while_loading

        return told_while_loading(self.name, self._runner)

    def chat(self, request: "ChatRequest") -> "Iterator[Event]":
        """See `ChatModel`."""
        return self._runner.chat(self.name, request, self._keep_alive_seconds)

    def about(self) -> list[tuple[str, str]]:
        """See `ChatModel`."""
        model = self._status.model if self._status else None
        rows = [
            ("Model", self.name),
            ("Id", self._stored.id.removeprefix("sha256:")[:12]),
            ("Parameters", self._stored.parameters),
            ("Quantization", self._quantization),
        ]
        if model is not None:
            length = f"{model.context_length} of {model.trained_context_length} tokens"
            rows += [("Architecture", model.architecture), ("Context", length)]
        return rows

    def template(self) -> str:
        """See `ChatModel`."""
        model = self._status.model if self._status else None
        return (model.chat_template if model else None) or ""

    def names(self) -> Sequence[str]:
        """See `ChatModel`."""
        return self._place.names()

    def switch(self, name: str) -> None:
        """See `ChatModel`; one that is missing is pulled."""
        before = self._stored
        self._stored = self._place.find(name)
        try:
            self.load()
        except BaseException:
            self._stored = before
            raise

    def reload(self, context_tokens: int) -> None:
        """See `ChatModel`."""
        before = self._options
        self._options = replace(self._options, context_length=context_tokens)
        try:
            self.load()
        except BaseException:
            self._options = before
            raise
