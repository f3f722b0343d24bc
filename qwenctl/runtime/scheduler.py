"""Many requests on one context: they join and leave between decode steps.

One thread owns the decoder and runs rounds: retire what was cancelled, seat who waits longest (`seating`),
perhaps guess ahead (`speculation`), decode one batch (`batches.compose`), sample for who is due (`draws`).
Other threads only append to the queue, mark generations as cancelled, and may interrupt a running decode.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qwenctl.errors import GenerationFailed, InvalidRequest, MemoryShort, QwenctlError
from qwenctl.runtime.batches import Decoder, Outcome, Span, compose
from qwenctl.runtime.draws import draw
from qwenctl.runtime.engine import Cancel, EngineStats
from qwenctl.runtime.generation import Generation
from qwenctl.runtime.overflow import dropped_tokens
from qwenctl.runtime.prompt_cache import PromptCache
from qwenctl.runtime.seating import Seating
from qwenctl.runtime.speculation import Drafter, Guess

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drafting:
    """Where guesses come from, and how many tokens of one sequence are guessed at a time."""

    drafter: Drafter
    tokens: int


class Scheduler:
    """Runs generations on a decoder until `close`; its methods may be called from any thread.

    It does not own the decoder, nor the drafter: close the scheduler first, then free them.
    """

    def __init__(
        self,
        decoder: Decoder,
        slots: int,
        cache: PromptCache | None = None,
        drafting: Drafting | None = None,
    ) -> None:
        self._decoder = decoder
        self._slots: Final = slots
        self._seating = Seating(decoder, slots, cache)
        self._drafting = drafting if decoder.rewinds else None
        if drafting is not None and not decoder.rewinds:
            _log.warning("the model cannot take back a guess: it runs without speculation")
        self._running: list[Generation] = []  # in order of admission
        self._by_sequence: dict[int, Generation] = {}
        self._sliding: list[Generation] = []  # those whose context may shift
        self._prompt_tokens = self._cached_tokens = self._completion_tokens = 0
        self._decode_calls = self._drafted_tokens = self._accepted_tokens = 0
        # Guarded by the condition, because other threads use them:
        self._changed = threading.Condition()
        self._waiting: deque[Generation] = deque()
        self._in_flight: Sequence[Generation] = ()
        self._cancelled = False  # whether any generation was, since the decode thread looked
        self._lost = False  # whether the last step was interrupted
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation) -> Cancel:
        """Queues `generation`; its events come on the decode thread.

        Raises: GenerationFailed when closed; InvalidRequest where the context is to shift and cannot.
        """
        if generation.task.overflow == "shift" and not self._decoder.shifts:
            raise InvalidRequest(
                "this model cannot move on in a full context",
                hint="let the prompt be cut (`truncate`), or ask for a larger context",
            )
        with self._changed:
            if self._closed:
                raise closed_error()
            self._waiting.append(generation)
            self._changed.notify()
        return lambda: self._cancel(generation)

    def stats(self) -> EngineStats:
        """The counters as they are."""
        return EngineStats(
            slots=self._slots,
            running=len(self._running),
            waiting=len(self._waiting),
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            completion_tokens=self._completion_tokens,
            decode_calls=self._decode_calls,
            drafted_tokens=self._drafted_tokens,
            accepted_tokens=self._accepted_tokens,
        )

    def close(self) -> None:
        """Fails what still runs or waits, and returns when the decode thread has ended. Idempotent."""
        with self._changed:
            self._closed = True
            self._decoder.interrupt(True)
            self._changed.notify()
        self._thread.join()

    def _cancel(self, generation: Generation) -> None:
        with self._changed:
            if generation.over:
                return
            generation.cancelled = self._cancelled = True
            if self._worth_interrupting(generation):
                self._decoder.interrupt(True)
            self._changed.notify()

    def _worth_interrupting(self, generation: Generation) -> bool:
        """Interrupting loses the step for everybody in it: do so when nobody is left who needs it, or when
        the cancelled prompt is what makes the step long; but not twice in a row, or who sends prompts and
        cancels them would stop all others."""
        if generation not in self._in_flight:
            return False
        if all(other.cancelled for other in self._in_flight):
            return True
        return generation.prefilling and not self._lost

    # --- the decode thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while self._has_work():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - a server loop outlives its bugs
                _log.exception("a decode round failed")
                self._drop_all(_bug(error))
        with self._changed:
            left = [*self._waiting]
            self._waiting.clear()
        self._drop_all(closed_error())
        for generation in left:
            generation.fail(closed_error())

    def _has_work(self) -> bool:
        if self._running:
            return not self._closed
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return not self._closed

    def _round(self) -> None:
        if self._cancelled:
            self._retire_cancelled()
        if self._waiting:
            self._cached_tokens += self._seating.settle()  # before another takes the place of who left
            self._admit()
        self._cached_tokens += self._seating.settle()
        ready = self._seating.ready(self._running)
        if self._sliding:
            self._shift()
        if self._drafting is not None:
            self._draft(ready, self._drafting)
        spans = compose(ready, self._decoder.batch_tokens)
        generations = [self._by_sequence[span.sequence] for span in spans]
        with self._changed:
            if not spans or self._closed or self._cancelled:
                return
            self._decoder.interrupt(False)
            self._in_flight = generations
        self._decode(spans)
        with self._changed:
            self._in_flight = ()

    def _retire_cancelled(self) -> None:
        with self._changed:
            self._cancelled = False
            cancelled = [generation for generation in self._waiting if generation.cancelled]
            for generation in cancelled:
                self._waiting.remove(generation)
        for generation in [generation for generation in self._running if generation.cancelled]:
            self._release(generation)
            cancelled.append(generation)
        for generation in cancelled:
            generation.cancel()
            generation.conclude()

    def _admit(self) -> None:
        while len(self._running) < self._slots:
            with self._changed:
                if not self._waiting:
                    return
                generation = self._waiting.popleft()
            try:
                self._seat(generation)
            except Exception as error:
                # It is in no list now: who asked for it hears of it here, or never.
                if generation.sampler is not None:
                    generation.sampler.close()
                generation.fail(error if isinstance(error, QwenctlError) else _bug(error))
                if not isinstance(error, QwenctlError):
                    raise

    def _seat(self, generation: Generation) -> None:
        generation.sampler = self._decoder.sampler(generation.task.sampling, generation.tokens)
        self._cached_tokens += self._seating.seat(generation)
        self._prompt_tokens += generation.prompt_tokens
        self._running.append(generation)
        self._by_sequence[generation.sequence] = generation
        if generation.task.overflow == "shift":
            self._sliding.append(generation)

    def _shift(self) -> None:
        """Makes room where the context is full and the answer may go on."""
        for generation in self._sliding:
            if generation.full and not generation.prefilling:
                count = dropped_tokens(generation.decoded, generation.kept)
                self._decoder.drop(generation.sequence, generation.kept, count)
                generation.shift(count)

    def _draft(self, generations: Sequence[Generation], drafting: Drafting) -> None:
        drafters: list[Generation] = []
        for generation in generations:
            generation.draft = []
            if not generation.prefilling and generation.pace.due() and generation.draft_room > 0:
                drafters.append(generation)
        guesses = [
            Guess(generation.sequence, generation.tokens, min(drafting.tokens, generation.draft_room))
            for generation in drafters
        ]
        if guesses:
            for generation, draft in zip(drafters, drafting.drafter.draft(guesses), strict=True):
                generation.draft = draft

    def _decode(self, spans: Sequence[Span]) -> None:
        self._decode_calls += 1
        outcome = self._decoder.decode(spans)
        self._lost = outcome is Outcome.INTERRUPTED
        if outcome is Outcome.DONE:
            self._collect(spans)
            return
        reason = self._decoder.last_error()
        self._rewind(spans)
        if outcome is Outcome.INTERRUPTED:
            return
        if len(spans) == 1:
            self._fail(spans[0].sequence, _failure(outcome, reason))
            return
        # Somebody in the batch is at fault: decoded one by one, only they fail.
        for span in spans:
            alone = [self._by_sequence[span.sequence]]
            self._decode(compose(alone, self._decoder.batch_tokens))

    def _collect(self, spans: Sequence[Span]) -> None:
        """Samples after every span that asked for it, and hands out what came."""
        row = 0
        due: list[tuple[Generation, Span, int]] = []
        for span in spans:  # first all of them: a bug in one sampler must not leave the others a step behind
            generation = self._by_sequence[span.sequence]
            row += len(span.tokens)
            generation.decoded += len(span.tokens)
            generation.shifting = False
            if span.logits:
                due.append((generation, span, row - span.logits))
        for generation, span, first in due:
            self._sample(generation, span, first)

    def _sample(self, generation: Generation, span: Span, row: int) -> None:
        """Draws what comes after the outputs of a span, of which `row` is the first."""
        assert generation.sampler is not None
        draft = span.tokens[1:] if span.logits > 1 else ()
        drawn, error = draw(generation.sampler, row, draft, generation.task.top_logprobs, self._decoder.ends)
        if span.logits > 1:
            self._take_back(generation, span, len(drawn) - 1)
        for token, logprob in drawn:
            self._completion_tokens += 1
            generation.accept(token, self._decoder.piece(token), self._decoder.ends(token), logprob)
            if generation.over:
                break
        if generation.over:
            self._release(generation)
            generation.conclude()
        elif error is not None:
            self._fail(span.sequence, error)

    def _take_back(self, generation: Generation, span: Span, came: int) -> None:
        """Forgets the drafted tokens behind the `came` ones that were right."""
        drafted, accepted = span.logits - 1, max(0, came)
        generation.pace.note(drafted, accepted)
        self._drafted_tokens += drafted
        self._accepted_tokens += accepted
        if accepted < drafted:
            generation.decoded = span.start + 1 + accepted
            if not self._decoder.keep(span.sequence, generation.decoded):
                generation.forget()

    def _rewind(self, spans: Sequence[Span]) -> None:
        """Brings the sequences back to what they held before a decode that did not finish.

        A shift may have been done in part of the layers: what it touched is computed again.
        """
        for span in spans:
            if not self._decoder.keep(span.sequence, span.start):
                self._by_sequence[span.sequence].forget()
        for generation in self._running:
            if generation.shifting:
                self._decoder.keep(generation.sequence, 0)
                generation.forget()

    def _release(self, generation: Generation) -> None:
        assert generation.sampler is not None
        generation.sampler.close()
        self._running.remove(generation)
        del self._by_sequence[generation.sequence]
        if generation in self._sliding:
            self._sliding.remove(generation)
        self._seating.release(generation)

    def _fail(self, sequence: int, error: QwenctlError) -> None:
        generation = self._by_sequence[sequence]
        self._release(generation)
        generation.fail(error)

    def _drop_all(self, error: QwenctlError) -> None:
        """Ends everything that runs with `error` and trusts nothing in the KV cache any more."""
        with self._changed:
            self._in_flight = ()
        for generation in [*self._running]:
            self._release(generation)
            generation.fail(error)
        self._seating.clear()


def _failure(outcome: Outcome, reason: str) -> GenerationFailed | MemoryShort:
    if outcome is Outcome.NO_MEMORY:
        return MemoryShort(
            f"llama.cpp ran out of memory in the middle of an answer: {reason}",
            hint="a smaller context or `--kv q8_0` need less; so does another program that ends",
        )
    return GenerationFailed(f"llama.cpp could not decode: {reason}")


def _bug(error: Exception) -> GenerationFailed:
    return GenerationFailed(f"the engine failed inside: {error!r}")


def closed_error() -> GenerationFailed:
    """What a closed engine answers."""
    return GenerationFailed("the engine was closed", hint="load the model again")
