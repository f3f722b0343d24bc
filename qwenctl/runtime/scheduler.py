"""Many requests on one context: they join and leave between decode steps.

One thread owns the decoder and runs rounds: retire what was cancelled, give free slots to who waits longest,
decode one batch (`batches.compose`), sample a token for every sequence that is due. Other threads only append
to the queue, mark generations as cancelled, and may interrupt a running decode.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from qwenctl.errors import GenerationFailed, MemoryShort, QwenctlError
from qwenctl.runtime.batches import Decoder, Outcome, Span, compose
from qwenctl.runtime.engine import Cancel, EngineStats
from qwenctl.runtime.generation import Generation
from qwenctl.runtime.slots import Slot, choose_slot

_log: Final = logging.getLogger(__name__)


class Scheduler:
    """Runs generations on a decoder until `close`; its methods may be called from any thread.

    It does not own the decoder: close the scheduler first, then free the decoder.
    """

    def __init__(self, decoder: Decoder, slots: int) -> None:
        self._decoder = decoder
        self._slots = [Slot(sequence) for sequence in range(slots)]
        self._running: list[Generation] = []  # in order of admission
        self._by_sequence: dict[int, Generation] = {}
        self._releases = 0
        self._counts = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "decode_calls": 0}
        # Guarded by the condition, because other threads use them:
        self._changed = threading.Condition()
        self._waiting: deque[Generation] = deque()
        self._in_flight: Sequence[Generation] = ()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="decode", daemon=True)
        self._thread.start()

    def submit(self, generation: Generation) -> Cancel:
        """Queues `generation`; its events come on the decode thread. Raises: GenerationFailed when closed."""
        with self._changed:
            if self._closed:
                raise closed_error()
            self._waiting.append(generation)
            self._changed.notify()
        return lambda: self._cancel(generation)

    def stats(self) -> EngineStats:
        """The counters as they are."""
        return EngineStats(
            slots=len(self._slots),
            running=len(self._running),
            waiting=len(self._waiting),
            **self._counts,
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
            generation.cancelled = True
            if self._worth_interrupting(generation):
                self._decoder.interrupt(True)
            self._changed.notify()

    def _worth_interrupting(self, generation: Generation) -> bool:
        """Interrupting loses the step for everybody in it: do so when nobody is left who needs it, or when
        the cancelled prompt is what makes the step long."""
        if generation not in self._in_flight:
            return False
        return generation.prefilling or all(other.cancelled for other in self._in_flight)

    # --- the decode thread -------------------------------------------------------------------------

    def _run(self) -> None:
        while self._has_work():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - a server loop outlives its bugs
                _log.exception("a decode round failed")
                self._drop_all(GenerationFailed(f"the engine failed inside: {error!r}"))
        with self._changed:
            left = [*self._waiting]
            self._waiting.clear()
        self._drop_all(closed_error())
        for generation in left:
            generation.fail(closed_error())

    def _has_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._running or self._closed)
            return not self._closed

    def _round(self) -> None:
        self._retire_cancelled()
        self._admit()
        spans = compose(self._running, self._decoder.batch_tokens)
        generations = [self._by_sequence[span.sequence] for span in spans]
        with self._changed:
            if not spans or self._closed or any(generation.cancelled for generation in generations):
                return
            self._decoder.interrupt(False)
            self._in_flight = generations
        self._decode(spans)
        with self._changed:
            self._in_flight = ()

    def _retire_cancelled(self) -> None:
        with self._changed:
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
        while len(self._running) < len(self._slots):
            with self._changed:
                if not self._waiting:
                    return
                generation = self._waiting.popleft()
            try:
                self._seat(generation)
            except QwenctlError as error:
                generation.fail(error)

    def _seat(self, generation: Generation) -> None:
        prompt = generation.tokens
        sampler = self._decoder.sampler(generation.task.sampling, prompt)
        choice = choose_slot(self._slots, prompt)
        assert choice is not None, "a generation is seated only when a slot is free"
        slot, reuse = choice.slot, choice.reuse
        if reuse < len(slot.tokens) and not self._decoder.keep(slot.sequence, reuse):
            reuse = 0
        slot.busy = True
        generation.begin(slot.sequence, reuse, sampler)
        self._running.append(generation)
        self._by_sequence[slot.sequence] = generation
        self._counts["prompt_tokens"] += len(prompt)
        self._counts["cached_tokens"] += reuse

    def _decode(self, spans: Sequence[Span]) -> None:
        self._counts["decode_calls"] += 1
        outcome = self._decoder.decode(spans)
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
        row = -1
        for span in spans:
            row += len(span.tokens)
            generation = self._by_sequence[span.sequence]
            generation.decoded += len(span.tokens)
            if not span.logits:
                continue
            assert generation.sampler is not None
            try:
                token = generation.sampler.sample(row)
            except QwenctlError as error:  # a grammar without a way on: the others have theirs
                self._fail(span.sequence, error)
                continue
            self._counts["completion_tokens"] += 1
            generation.accept(token, self._decoder.piece(token), self._decoder.ends(token))
            if generation.over:
                self._release(generation)
                generation.conclude()

    def _rewind(self, spans: Sequence[Span]) -> None:
        """Brings the sequences back to what they held before a decode that did not finish."""
        for span in spans:
            if not self._decoder.keep(span.sequence, span.start):
                self._by_sequence[span.sequence].decoded = 0

    def _release(self, generation: Generation) -> None:
        """Frees the slot; what it holds stays for a prompt with the same beginning."""
        assert generation.sampler is not None
        generation.sampler.close()
        self._running.remove(generation)
        del self._by_sequence[generation.sequence]
        slot = self._slots[generation.sequence]
        slot.tokens = generation.tokens[: generation.decoded]
        slot.busy = False
        self._releases += 1
        slot.released = self._releases

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
        for slot in self._slots:
            self._decoder.keep(slot.sequence, 0)
            slot.tokens = []


def _failure(outcome: Outcome, reason: str) -> GenerationFailed | MemoryShort:
    if outcome is Outcome.NO_MEMORY:
        return MemoryShort(
            f"llama.cpp ran out of memory in the middle of an answer: {reason}",
            hint="a smaller context or `--kv q8_0` need less; so does another program that ends",
        )
    return GenerationFailed(f"llama.cpp could not decode: {reason}")


def closed_error() -> GenerationFailed:
    """What a closed engine answers."""
    return GenerationFailed("the engine was closed", hint="load the model again")
