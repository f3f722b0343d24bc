"""One request in flight: its tokens, text and limits, and the events it causes. No llama.cpp, no threads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter

from qwenctl.errors import PromptTooLong, QwenctlError
from qwenctl.runtime.batches import Sampler
from qwenctl.runtime.detokenizer import Detokenizer
from qwenctl.runtime.engine import Observer
from qwenctl.runtime.events import Finished, FinishReason, PromptProcessed, TextDelta, Usage
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.stops import StopMatcher

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for, in tokens. `max_tokens` None is: until the context is full."""

    prompt: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Generation:
    """The state of a task from its submission to its last event; only the scheduler changes it.

    `accept` and `cancel` may set `over`; then the scheduler frees what the task holds and lets it `conclude`.

    `tokens` are the prompt and what was sampled; the first `decoded` of them are in the KV cache, in
    sequence `sequence`. So an interrupted decode is undone by setting `decoded` back, even to 0.

    Raises: PromptTooLong, on creation, when the prompt leaves no room for a single token.
    """

    task: Task
    observe: Observer
    context_length: int
    clock: Clock = perf_counter
    tokens: list[int] = field(init=False)
    decoded: int = 0
    sequence: int = -1
    cached: int = 0
    sampler: Sampler | None = None
    cancelled: bool = False
    over: bool = False
    completed: int = 0
    _last: Finished | None = None
    _unsaid: int = 0
    _started: float = 0.0
    _prompt_done: float = 0.0
    _text: Detokenizer = field(default_factory=Detokenizer)
    _stops: StopMatcher = field(init=False)

    def __post_init__(self) -> None:
        prompt = len(self.task.prompt)
        if prompt >= self.context_length:
            raise PromptTooLong(
                f"the prompt has {prompt} tokens, the context holds {self.context_length} with the answer",
                hint="shorten the conversation or ask for a larger context",
            )
        self.tokens = list(self.task.prompt)
        self._stops = StopMatcher(self.task.stop)

    @property
    def prefilling(self) -> bool:
        """Whether more than the one token of a running generation waits to be decoded."""
        return len(self.tokens) - self.decoded > 1

    def begin(self, sequence: int, cached: int, sampler: Sampler) -> None:
        """The task has its sequence, which holds the first `cached` tokens of the prompt already."""
        self.sequence = sequence
        self.decoded = self.cached = cached
        self.sampler = sampler
        self._started = self.clock()

    def accept(self, token: int, piece: bytes, ends: bool) -> None:
        """The next token was sampled; emits the text that follows from it, and may set `over`."""
        if self.completed == 0:
            self._prompt_done = self.clock()
            seconds = self._prompt_done - self._started
            self.observe(PromptProcessed(len(self.task.prompt), self.cached, seconds))
        self.completed += 1
        if ends:
            self._finish_text("stop")
            return
        self.tokens.append(token)
        self._unsaid += 1
        text, stopped = self._stops.feed(self._text.feed(piece))
        self._say(text)
        if stopped:
            self._finish("stop")
        elif self.completed == self.task.max_tokens or len(self.tokens) >= self.context_length:
            self._finish_text("length")

    def cancel(self) -> None:
        """Ends the task as cancelled; text held back is not said."""
        self._finish("cancelled")

    def conclude(self) -> None:
        """Emits the last event."""
        assert self._last is not None, "only what is over has an end"
        self.observe(self._last)

    def fail(self, error: QwenctlError) -> None:
        """Ends the task with `error` instead of `Finished`."""
        self.over = True
        self.observe(error)

    def _finish_text(self, reason: FinishReason) -> None:
        """Says the rest: an incomplete character, the beginning of a stop string that did not come."""
        text, stopped = self._stops.feed(self._text.finish())
        self._say(text if stopped else text + self._stops.finish())
        self._finish("stop" if stopped else reason)

    def _say(self, text: str) -> None:
        if text:
            self.observe(TextDelta(text, self._unsaid))
            self._unsaid = 0

    def _finish(self, reason: FinishReason) -> None:
        now = self.clock()
        # A task cancelled in the queue has not started; one cancelled in its prompt has completed nothing.
        prompt_done = self._prompt_done if self.completed else now
        usage = Usage(
            prompt_tokens=len(self.task.prompt),
            completion_tokens=self.completed,
            cached_tokens=self.cached,
            prompt_seconds=prompt_done - self._started if self.sequence >= 0 else 0.0,
            completion_seconds=now - prompt_done,
        )
        self.over = True
        self._last = Finished(reason, usage)
