"""An engine that says what it is told to, for tests of everything above the engine; it needs no model.

`python -m qwenctl.runtime.scripted` is a worker process around one.
"""

import math
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from qwenctl.errors import GenerationFailed, PromptTooLong, QwenctlError
from qwenctl.runtime.engine import (
    Cancel,
    ChatRequest,
    Embeddings,
    EmbedRequest,
    EngineOptions,
    EngineStats,
    LoadedModel,
    Observer,
    Request,
    RerankRequest,
    Scores,
    Wanted,
    always,
    pull,
)
from qwenctl.runtime.events import (
    Event,
    Finished,
    FinishReason,
    Likelihood,
    PromptProcessed,
    TextDelta,
    TokenLogprob,
    Usage,
)
from qwenctl.runtime.stops import StopMatcher

Script = Callable[[Request], str]
_DEFAULT_CONTEXT = 2048


def echo(request: Request) -> str:
    """The default script: the last message, or the prompt, once more."""
    return _texts(request)[-1]


class ScriptedEngine:
    """`engine.Engine` whose tokens are characters and whose answers come from a function of the request.

    A script may raise an error of ours instead: the request fails with it. `pause_seconds` lie before each
    token, so that tests can cancel or kill in mid-stream.
    """

    def __init__(
        self,
        script: Script = echo,
        *,
        slots: int = 4,
        context_length: int = _DEFAULT_CONTEXT,
        pause_seconds: float = 0.0,
    ) -> None:
        self._script = script
        self._pause_seconds = pause_seconds
        self._model = _describe(slots, context_length)
        # Guarded by the condition:
        self._changed = threading.Condition()
        self._waiting: list[_Run] = []
        self._running: list[_Run] = []
        self._closed = False
        self._counts = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "decode_calls": 0}

    @property
    def model(self) -> LoadedModel:
        """See `engine.Engine`."""
        return self._model

    def start(self, request: Request, observe: Observer) -> Cancel:
        """See `engine.Engine`."""
        prompt = self.count_tokens(request)
        if prompt >= self._model.context_length:
            raise PromptTooLong(
                f"the prompt has {prompt} tokens, the context holds {self._model.context_length}"
            )
        run = _Run(request, observe, prompt, _limit(request.max_tokens, self._model.context_length - prompt))
        with self._changed:
            if self._closed:
                raise GenerationFailed("the engine was closed")
            self._waiting.append(run)
        threading.Thread(target=self._perform, args=(run,), daemon=True).start()
        return partial(self._cancel, run)

    def generate(self, request: Request) -> Iterator[Event]:
        """See `engine.Engine`."""
        return pull(self.start, request)

    def count_tokens(self, request: Request) -> int:
        """See `engine.Engine`: one token is one character."""
        return sum(map(len, _texts(request)))

    def embed(self, request: EmbedRequest, wanted: Wanted = always) -> Embeddings:
        """See `engine.Engine`: each vector tells the length of its text by its direction."""
        angles = [len(text) / 100 for text in request.texts]
        vectors = tuple(struct.pack("<2f", math.cos(angle), math.sin(angle)) for angle in angles)
        return Embeddings(dimensions=2, vectors=vectors, prompt_tokens=sum(map(len, request.texts)))

    def rerank(self, request: RerankRequest, wanted: Wanted = always) -> Scores:
        """See `engine.Engine`: the score is how many words of the query a document has."""
        words = set(request.query.split())
        scores = tuple(float(len(words & set(text.split()))) for text in request.documents)
        return Scores(scores=scores, prompt_tokens=len(request.query) + sum(map(len, request.documents)))

    def stats(self) -> EngineStats:
        """See `engine.Engine`."""
        with self._changed:
            return EngineStats(
                slots=self._model.slots,
                running=len(self._running),
                waiting=len(self._waiting),
                **self._counts,
            )

    def close(self) -> None:
        """See `engine.Engine`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._running and not self._waiting)

    def _cancel(self, run: "_Run") -> None:
        with self._changed:
            run.cancelled = True
            self._changed.notify_all()

    def _perform(self, run: "_Run") -> None:
        """One request, on its own thread: wait for a slot, speak, give it back, say the last word."""
        with self._changed:
            self._changed.wait_for(lambda: self._may_go_on(run))
            self._waiting.remove(run)
            self._running.append(run)
        last: Event | QwenctlError
        try:
            last = run.finished(self._speak(run))
        except QwenctlError as error:
            last = error
        with self._changed:
            self._running.remove(run)
            self._changed.notify_all()
        run.observe(last)

    def _may_go_on(self, run: "_Run") -> bool:
        first = self._waiting[0] is run and len(self._running) < self._model.slots
        return first or run.cancelled or self._closed

    def _speak(self, run: "_Run") -> FinishReason:
        if run.cancelled or self._closed:
            return self._ended()
        answer = self._script(run.request)
        stops = run.stops
        for character in answer:
            with self._changed:
                self._changed.wait_for(lambda: run.cancelled or self._closed, timeout=self._pause_seconds)
                if run.cancelled or self._closed:
                    return self._ended()
                self._counts["completion_tokens"] += 1
            text, stopped = stops.feed(character)
            run.accept(text)
            if stopped:
                return "stop"
            if run.completed == run.limit:
                break
        run.say(stops.finish())
        return "length" if run.completed == run.limit else "stop"

    def _ended(self) -> FinishReason:
        if self._closed:
            raise GenerationFailed("the engine was closed")
        return "cancelled"


class _Run:
    """One request of a scripted engine."""

    def __init__(self, request: Request, observe: Observer, prompt_tokens: int, limit: int) -> None:
        self.request = request
        self.observe = observe
        self.limit = limit
        self.cancelled = False
        self.completed = 0
        self.stops = StopMatcher(request.stop)
        self._prompt_tokens = prompt_tokens
        self._unsaid = 0
        self._began = time.perf_counter()

    def accept(self, text: str) -> None:
        """A token was made, and it allows to say `text`."""
        if self.completed == 0:
            self.observe(PromptProcessed(self._prompt_tokens, 0, time.perf_counter() - self._began))
        self.completed += 1
        self._unsaid += 1
        self.say(text)

    def say(self, text: str) -> None:
        """Emits `text`, if there is any."""
        if text:
            self.observe(TextDelta(text, self._unsaid, self._logprobs(text)))
            self._unsaid = 0

    def _logprobs(self, text: str) -> tuple[TokenLogprob, ...]:
        """Each character certain, and as many others, each half as likely as the one before."""
        top = self.request.top_logprobs
        if top is None:
            return ()
        rest = tuple(Likelihood(n, bytes([n]), -n * math.log(2)) for n in range(1, top))
        chosen = [Likelihood(ord(character), character.encode(), 0.0) for character in text]
        return tuple(TokenLogprob(one, (one, *rest)[:top]) for one in chosen)

    def finished(self, reason: FinishReason) -> Finished:
        """The last event."""
        seconds = time.perf_counter() - self._began
        usage = Usage(self._prompt_tokens, self.completed, 0, 0.0, seconds)
        return Finished(reason, usage, self.stops.matched)


def _limit(max_tokens: int | None, room: int) -> int:
    """The tokens that an answer may have."""
    return room if max_tokens is None else min(max_tokens, room)


def _texts(request: Request) -> list[str]:
    if not isinstance(request, ChatRequest):
        return [request.prompt]
    contents = [message.content or "" for message in request.messages]
    return ["\n".join(part.text for part in c) if isinstance(c, tuple) else c for c in contents] or [""]


def _describe(slots: int, context_length: int) -> LoadedModel:
    return LoadedModel(
        architecture="scripted",
        parameters=0,
        quantization="none",
        weights_bytes=0,
        layers=0,
        vocabulary_size=0x110000,
        context_length=context_length,
        trained_context_length=context_length,
        slots=slots,
        dimensions=2,
    )


def open_scripted(options: EngineOptions) -> ScriptedEngine:
    """An echoing engine that takes from `options` what it can."""
    return ScriptedEngine(slots=options.slots, context_length=options.context_length or _DEFAULT_CONTEXT)


if __name__ == "__main__":
    from qwenctl.runtime.worker import main

    main(open_scripted)
