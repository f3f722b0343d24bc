"""Texts turned into vectors, or into scores: a context of its own beside the one that generates.

    tokens of texts → groups that fit a batch → llama.cpp pools each text → vectors

Two ways of computing. Where all tokens of a text count, or see each other, it must be in one computation.
Where the last token alone counts, long texts go in pieces, without any output, and the last tokens of the
group follow by themselves: llama.cpp would else compute the logits of every token, which nobody reads, and
keep them (for 152,000 words of a vocabulary 300 MB a batch, and a third of a small model's work).

Source: llama.cpp src/llama-context.cpp, `decode` and `encode` (`output_all`); src/llama-graph.cpp,
`build_pooling`.
"""

import struct
import threading
from collections.abc import Iterator, Sequence
from math import hypot, isfinite
from typing import Any, Final

from qwenctl.errors import GenerationFailed, LoadFailed, MemoryShort, UsageError
from qwenctl.model.memory.configuration import Configuration, for_texts
from qwenctl.model.memory.figures import Estimate
from qwenctl.runtime.batches import Span
from qwenctl.runtime.breakdown import read_memory
from qwenctl.runtime.decoder import Batch, Interruption, check_options, open_context
from qwenctl.runtime.engine import EngineOptions, Wanted, always
from qwenctl.runtime.llama import LlamaModel
from qwenctl.runtime.scheduler import closed_error

_SMALLEST_TOKENS: Final = 512
# Source: llama.h, llama_decode.
_DECODED: Final = 0
_ABORTED: Final = 2
_NO_MEMORY: Final = -2

Tokens = Sequence[int]


class Embedder:
    """Computes vectors of texts on a model that the caller keeps open and closes afterwards.

    Several threads may call; they take turns, and between two batches the model's other contexts have theirs.
    """

    def __init__(
        self, model: LlamaModel, options: EngineOptions, context_length: int, *, growing: bool
    ) -> None:
        """`context_length` is the longest text, in tokens. `growing`: the context is made for the texts that
        come, when they come; else it is made now, for the longest.

        Raises: LoadFailed when the options do not work together; MemoryShort.
        """
        check_options(options)
        self._model = model
        self._options = options
        self._longest = context_length
        self._interruption = Interruption()
        # Guarded by the lock:
        self._lock = threading.Lock()
        self._context: _TextContext | None = None
        self._closed = False
        self._counts = {"prompt_tokens": 0, "decode_calls": 0}
        if not growing:
            self._context = self._open(context_length)

    def memory(self) -> Estimate | None:
        """llama.cpp's account of the buffers of model and context; None where it gives none."""
        return self._context.memory() if self._context else None

    def counts(self) -> dict[str, int]:
        """What was computed: `prompt_tokens`, `decode_calls`."""
        return {**self._counts}

    def vectors(self, texts: Sequence[Tokens], wanted: Wanted = always) -> list[tuple[float, ...]]:
        """What llama.cpp makes of each text, unchanged; none may be empty or longer than the context.

        Raises: MemoryShort; GenerationFailed, also after `close` and where they are no longer `wanted`.
        """
        made: list[tuple[float, ...]] = []
        longest = max(map(len, texts), default=0)
        with self._lock:
            context = self._suited(longest)
            for group in _grouped(texts, context.batch_tokens, context.texts):
                if not wanted():
                    raise GenerationFailed("nobody waits for the texts any more")
                made += context.compute(group)
                self._counts["prompt_tokens"] += sum(map(len, group))
                self._counts["decode_calls"] += 1
        return made

    def close(self) -> None:
        """Ends what is computed and frees the context. Call once."""
        self._closed = True
        self._interruption.set(True)
        with self._lock:
            if self._context is not None:
                self._context.close()
                self._context = None

    def _suited(self, longest: int) -> "_TextContext":
        """The context, made anew where a text is longer than all before."""
        if self._closed:
            raise closed_error()
        if self._context is None or longest > self._context.longest_text:
            if self._context is not None:
                self._context.close()
                self._context = None
            room = max(_SMALLEST_TOKENS, 1 << max(0, longest - 1).bit_length())
            self._context = self._open(min(room, self._longest))
        return self._context

    def _open(self, tokens: int) -> "_TextContext":
        try:
            configuration = for_texts(self._options.configuration(tokens), self._model.use)
        except UsageError as error:
            raise LoadFailed(error.message, hint=error.hint) from error
        return _TextContext(self._model, self._options, configuration, self._interruption)


class _TextContext:
    """One context of llama.cpp for texts up to `longest_text` tokens."""

    def __init__(
        self,
        model: LlamaModel,
        options: EngineOptions,
        configuration: Configuration,
        interruption: Interruption,
    ) -> None:
        self._model = model
        self._api = api = model.library.api
        self._configuration = configuration
        self._handle = open_context(model, options, configuration, interruption)
        self._memory = api.llama_get_memory(self._handle)
        self._compute = api.llama_encode if model.has_encoder else api.llama_decode
        self.longest_text: Final = configuration.context_tokens
        self.batch_tokens: Final = int(api.llama_n_batch(self._handle))
        self.texts: Final = configuration.slots
        self._size = model.dimensions
        self._batch = Batch(api, self.batch_tokens, self.texts)

    def memory(self) -> Estimate | None:
        """See `Embedder.memory`."""
        model = self._model
        size, layers = model.vocabulary.size, model.layers + 1
        return read_memory(model.library, self._handle, self._configuration, layers, size, "loaded")

    def compute(self, texts: Sequence[Tokens]) -> list[tuple[float, ...]]:
        """The vectors of up to `texts` texts, which fit a batch together or are one."""
        if self._memory:
            self._api.llama_memory_clear(self._memory, False)
        if self._model.use.whole:
            spans = [Span(sequence, 0, [*tokens], len(tokens)) for sequence, tokens in enumerate(texts)]
        else:
            self._api.llama_set_embeddings(self._handle, False)
            for piece in self._pieces(texts):
                self._run(piece)
            self._api.llama_set_embeddings(self._handle, True)
            spans = [
                Span(sequence, len(tokens) - 1, [tokens[-1]], 1) for sequence, tokens in enumerate(texts)
            ]
        return self._run(spans, len(texts))

    def close(self) -> None:
        """Frees it. Call once."""
        self._api.llama_free(self._handle)

    def _pieces(self, texts: Sequence[Tokens]) -> Iterator[list[Span]]:
        """All but the last token of each text; a text that is alone goes batch by batch."""
        if len(texts) > 1:
            spans = [Span(at, 0, [*tokens[:-1]], 0) for at, tokens in enumerate(texts) if len(tokens) > 1]
            if spans:
                yield spans
            return
        tokens = [*texts[0][:-1]]
        for start in range(0, len(tokens), self.batch_tokens):
            yield [Span(0, start, tokens[start : start + self.batch_tokens], 0)]

    def _run(self, spans: Sequence[Span], results: int = 0) -> list[tuple[float, ...]]:
        """Computes one batch, in the model's turn, and reads the vectors of the first sequences."""
        log = self._model.library.log
        with self._model.turns:
            log.clear()
            code = self._compute(self._handle, self._batch.fill(spans))
            if code != _DECODED:
                raise _failure(code, log)
            return [self._read(sequence) for sequence in range(results)]

    def _read(self, sequence: int) -> tuple[float, ...]:
        pointer = self._api.llama_get_embeddings_seq(self._handle, sequence)
        if not pointer:
            raise GenerationFailed("llama.cpp made no vector of a text")
        return tuple(pointer[: self._size])


def normalised(vector: Sequence[float]) -> bytes:
    """A vector of length 1 (L2) in the same direction, as little-endian 32-bit floats.

    Raises: GenerationFailed for one without a direction.
    """
    length = hypot(*vector)
    if not isfinite(length) or length == 0:
        raise GenerationFailed("the model made a vector without a direction")
    return struct.pack(f"<{len(vector)}f", *(value / length for value in vector))


def _grouped(texts: Sequence[Tokens], batch_tokens: int, most: int) -> Iterator[list[Tokens]]:
    """Successive texts that fit a batch together; one that is too long for it is alone.

    Groups are small on purpose: their tokens share a cache, and each looks at all of it.
    """
    limit = min(batch_tokens, _SMALLEST_TOKENS)
    group: list[Tokens] = []
    size = 0
    for tokens in texts:
        if group and (size + len(tokens) > limit or len(group) == most):
            yield group
            group, size = [], 0
        group.append(tokens)
        size += len(tokens)
    if group:
        yield group


def _failure(code: int, log: Any) -> GenerationFailed | MemoryShort:
    if code == _ABORTED:
        return closed_error()
    reason = log.shortage()
    if code == _NO_MEMORY or reason is not None:
        return MemoryShort(f"memory ran out over a text: {reason or log.error()}")
    return GenerationFailed(f"llama.cpp failed over a text: {log.error()}")
