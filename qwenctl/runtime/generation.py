"""One request in flight: its tokens, text and limits, and the events it causes. No llama.cpp, no threads."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from qwenctl.errors import PromptTooLong, QwenctlError
from qwenctl.runtime.batches import Sampler
from qwenctl.runtime.detokenizer import Detokenizer
from qwenctl.runtime.engine import Observer, Overflow
from qwenctl.runtime.events import Finished, FinishReason, PromptProcessed, TextDelta, TokenLogprob, Usage
from qwenctl.runtime.overflow import fit_prompt, longest_beginning
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.speculation import Pace
from qwenctl.runtime.stops import StopMatcher

Clock = Callable[[], float]

# An answer without a limit, in a context that shifts, would have no end where the model sees none.
# Source: Ollama's server, which ends such an answer after ten contexts.
_CONTEXTS_WITHOUT_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked for, in tokens; see `engine.CompletionRequest`. `reasoning` as in `PromptProcessed`.

    `beginning_tokens` is how much of the beginning stays when the prompt is too long, as far as a quarter of
    the context goes; None is all of that quarter.
    """

    prompt: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    reasoning: bool = False
    overflow: Overflow = "refuse"
    beginning_tokens: int | None = None


@dataclass(slots=True, eq=False)
class Generation:
    """The state of a task from its submission to its last event; only the scheduler changes it.

    `accept` and `cancel` may set `over`; then the scheduler frees what the task holds and lets it `conclude`.

    `tokens` are the prompt and what was sampled; the first `decoded` of them are in the KV cache, in
    sequence `sequence`. So an interrupted decode is undone by setting `decoded` back; `forget` undoes all.

    Raises: PromptTooLong, on creation, when the prompt leaves no room for a single token and may not be cut.
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
    draft: list[int] = field(default_factory=list)
    pace: Pace = field(default_factory=Pace)
    shifting: bool = False
    prompt_tokens: int = field(init=False)
    kept: int = field(init=False)
    max_tokens: int | None = field(init=False)
    cancelled: bool = False
    over: bool = False
    completed: int = 0
    _unbroken: int = sys.maxsize
    _last: Finished | None = None
    _unsaid: int = 0
    _logprobs: list[TokenLogprob] = field(default_factory=list)
    _started: float = 0.0
    _prompt_done: float = 0.0
    _text: Detokenizer = field(default_factory=Detokenizer)
    _stops: StopMatcher = field(init=False)

    def __post_init__(self) -> None:
        task, context = self.task, self.context_length
        if len(task.prompt) >= context and (task.overflow == "refuse" or context < 2):
            raise PromptTooLong(
                f"the prompt has {len(task.prompt)} tokens, the context holds {context} with the answer",
                hint="shorten the conversation or ask for a larger context",
            )
        self.kept = longest_beginning(context, task.beginning_tokens)
        self.tokens = fit_prompt(task.prompt, context, task.max_tokens, self.kept)
        self.prompt_tokens = len(self.tokens)
        self.max_tokens = task.max_tokens
        if task.overflow == "shift" and task.max_tokens is None:
            self.max_tokens = _CONTEXTS_WITHOUT_LIMIT * context
        self._stops = StopMatcher(self.task.stop)

    @property
    def prefilling(self) -> bool:
        """Whether more than the one token of a running generation waits to be decoded."""
        return len(self.tokens) - self.decoded > 1

    @property
    def intact(self) -> int:
        """How many of the first tokens are in the KV cache as they are without a shift."""
        return min(self.decoded, self._unbroken)

    @property
    def full(self) -> bool:
        """Whether the context has to shift before the answer goes on."""
        return len(self.tokens) >= self.context_length

    @property
    def draft_room(self) -> int:
        """How many tokens may be guessed after the next one, if limits and shifts stay where they are."""
        room = self.context_length - len(self.tokens) - 1
        return room if self.max_tokens is None else min(room, self.max_tokens - self.completed - 1)

    def begin(self, sequence: int, cached: int) -> None:
        """The task has its sequence, which holds the first `cached` tokens of the prompt already."""
        self.sequence = sequence
        self.decoded = self.cached = cached
        self._started = self.clock()

    def shift(self, count: int) -> None:
        """The `count` tokens behind the kept beginning were dropped, in the KV cache too."""
        # A new list: who follows the old one as it grows (`speculation.Lookup`) sees that it is another.
        self.tokens = self.tokens[: self.kept] + self.tokens[self.kept + count :]
        self.decoded -= count
        self._unbroken = min(self._unbroken, self.kept)
        self.shifting = True

    def forget(self) -> None:
        """Its sequence is empty: everything is to be decoded again."""
        self.decoded = 0
        self._unbroken = sys.maxsize
        self.shifting = False

    def accept(self, token: int, piece: bytes, ends: bool, logprob: TokenLogprob | None = None) -> None:
        """The next token was sampled; emits the text that follows from it, and may set `over`."""
        if self.completed == 0:
            self._prompt_done = self.clock()
            seconds = self._prompt_done - self._started
            self.observe(PromptProcessed(self.prompt_tokens, self.cached, seconds, self.task.reasoning))
        self.completed += 1
        if ends:
            self._finish_text("stop")
            return
        self.tokens.append(token)
        self._unsaid += 1
        if logprob is not None:
            self._logprobs.append(logprob)
        text, stopped = self._stops.feed(self._text.feed(piece))
        self._say(text)
        if stopped:
            self._finish("stop")
        elif self.completed == self.max_tokens or (
            len(self.tokens) >= self.context_length and self.task.overflow != "shift"
        ):
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
            self.observe(TextDelta(text, self._unsaid, tuple(self._logprobs)))
            self._unsaid = 0
            self._logprobs.clear()

    def _finish(self, reason: FinishReason) -> None:
        now = self.clock()
        # A task cancelled in the queue has not started; one cancelled in its prompt has completed nothing.
        prompt_done = self._prompt_done if self.completed else now
        usage = Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completed,
            cached_tokens=self.cached,
            prompt_seconds=prompt_done - self._started if self.sequence >= 0 else 0.0,
            completion_seconds=now - prompt_done,
        )
        self.over = True
        self._last = Finished(reason, usage, self._stops.matched)
