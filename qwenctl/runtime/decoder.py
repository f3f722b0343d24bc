"""A context in llama.cpp that computes spans: batches, KV memory, samplers, interruption."""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from qwenctl.errors import LoadFailed, UsageError
from qwenctl.model.memory.configuration import KV_TYPES, QUANTIZED_KV, Configuration
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.purpose import POOLING_NUMBERS
from qwenctl.runtime.batches import Outcome, Span, State
from qwenctl.runtime.breakdown import read_memory
from qwenctl.runtime.engine import EngineOptions
from qwenctl.runtime.host import physical_cores
from qwenctl.runtime.llama import LlamaModel, refused
from qwenctl.runtime.sampler import LlamaSampler
from qwenctl.runtime.sampling import Sampling

# Source: llama.h, enum llama_flash_attn_type.
_FLASH_ATTENTION: Final = {"auto": -1, "off": 0, "on": 1}
# Threads meet after every operation. In a smaller model an operation takes microseconds, so a second thread
# gains little; but if another program has its core, every meeting lasts a time slice (measured on 2 M
# parameters and two busy cores: 5 instead of 2,000 tokens/s).
_ONE_THREAD_BYTES: Final = 32 * 1024 * 1024
MAX_DRAFT_TOKENS: Final = 64
# Source: llama.h, llama_decode: 2 is "aborted", 0 success, everything else an error or a full cache.
_DECODED: Final = 0
_ABORTED: Final = 2
# Source: llama-context.cpp, llama_context::decode, for a graph or outputs that found no room.
_NO_MEMORY: Final = -2


class LlamaDecoder:
    """`batches.Decoder` on a model that the caller keeps open and closes afterwards."""

    def __init__(self, model: LlamaModel, options: EngineOptions, context_length: int) -> None:
        """Raises: LoadFailed when the options do not work together or memory is short."""
        check_options(options)
        self._model = model
        self._api = model.library.api
        self._log = model.library.log
        self._interruption = Interruption()
        try:
            self._configuration = options.configuration(context_length)
        except UsageError as error:
            raise LoadFailed(error.message, hint=error.hint) from error
        self._context = open_context(model, options, self._configuration, self._interruption)
        self._memory = self._api.llama_get_memory(self._context)
        if not self._memory or self._api.llama_model_has_encoder(model.handle):
            self.close()
            raise LoadFailed(f"a `{model.architecture}` model does not generate text from a prompt alone")
        self.batch_tokens: Final = int(self._api.llama_n_batch(self._context))
        self._batch = Batch(self._api, self.batch_tokens, options.slots)
        recurrent = self._api.llama_model_is_recurrent(model.handle)
        self.rewinds: Final = not (recurrent or self._api.llama_model_is_hybrid(model.handle))
        self.shifts: Final = self.rewinds and bool(self._api.llama_memory_can_shift(self._memory))
        self._copying: set[int] = set()  # sequences whose copy llama.cpp does before it decodes again
        self.piece = model.vocabulary.piece
        self.ends = cache(model.vocabulary.ends)

    def memory(self) -> Estimate | None:
        """llama.cpp's account of the buffers of model and context; None where it gives none."""
        model = self._model
        size, layers = model.vocabulary.size, model.layers + 1
        return read_memory(model.library, self._context, self._configuration, layers, size, "loaded")

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """See `batches.Decoder`."""
        self._log.clear()
        with self._model.turns:
            code = self._api.llama_decode(self._context, self._batch.fill(spans))
        if code == _DECODED:
            self._copying.clear()
            return Outcome.DONE
        if code == _ABORTED:
            return Outcome.INTERRUPTED
        short = code == _NO_MEMORY or self._log.shortage() is not None  # Metal's code is that of any failure
        return Outcome.NO_MEMORY if short else Outcome.FAILED

    def last_error(self) -> str:
        """See `batches.Decoder`."""
        return self._log.error()

    def keep(self, sequence: int, length: int) -> bool:
        """See `batches.Decoder`."""
        if self._api.llama_memory_seq_rm(self._memory, sequence, length, -1):
            return True
        self._api.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return length == 0

    def drop(self, sequence: int, start: int, count: int) -> None:
        """See `batches.Decoder`."""
        self._api.llama_memory_seq_rm(self._memory, sequence, start, start + count)
        self._api.llama_memory_seq_add(self._memory, sequence, start + count, -1, -count)

    def copy(self, source: int, target: int) -> None:
        """See `batches.Decoder`."""
        # Between streams llama.cpp copies whole sequences only. Source: llama-kv-cache.cpp, seq_cp.
        self._api.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._copying |= {source, target}

    def state_bytes(self, sequence: int) -> int:
        """See `batches.Decoder`."""
        if sequence in self._copying:
            return 0
        return int(self._api.llama_state_seq_get_size_ext(self._context, sequence, 0))

    def save(self, sequence: int) -> State | None:
        """See `batches.Decoder`."""
        state = bytearray(self.state_bytes(sequence))
        if not state:
            return None
        memory = (ctypes.c_uint8 * len(state)).from_buffer(state)
        written = self._api.llama_state_seq_get_data_ext(self._context, memory, len(state), sequence, 0)
        return state if written == len(state) else None

    def restore(self, sequence: int, state: State) -> bool:
        """See `batches.Decoder`."""
        if sequence in self._copying:
            return False
        memory = (ctypes.c_uint8 * len(state)).from_buffer(state)
        return bool(self._api.llama_state_seq_set_data_ext(self._context, memory, len(state), sequence, 0))

    def sampler(self, sampling: Sampling, history: Sequence[int]) -> LlamaSampler:
        """See `batches.Decoder`. Raises: InvalidRequest for a grammar or a token that the model has not."""
        return LlamaSampler(self._model, self._context, sampling, history)

    def interrupt(self, requested: bool) -> None:
        """See `batches.Decoder`."""
        self._interruption.set(requested)

    def close(self) -> None:
        """Frees the context. Call once, when no thread decodes."""
        self._api.llama_free(self._context)


def open_context(
    model: LlamaModel, options: EngineOptions, configuration: Configuration, interruption: "Interruption"
) -> Any:
    """A context on `model`, with its adapters; the caller frees it with `llama_free`.

    Raises: LoadFailed with llama.cpp's reason; MemoryShort.
    """
    api = model.library.api
    parameters = context_parameters(api, configuration)
    parameters.n_threads = parameters.n_threads_batch = threads_of(options, model)
    parameters.op_offload = not model.cpu_only
    parameters.abort_callback = interruption.callback(type(parameters.abort_callback))
    parameters.abort_callback_data = interruption.address
    parameters.no_perf = True
    model.stretch(parameters, options.context_length)
    model.library.log.clear()
    context = api.llama_init_from_model(model.handle, parameters)
    if not context:
        raise refused(model.library, options.path, f"a context of {configuration.context_tokens} tokens")
    model.adapt(context)
    return context


def context_parameters(api: Any, configuration: Configuration) -> Any:
    """llama.cpp's parameters of a context, as far as memory depends on them."""
    parameters = api.llama_context_default_params()
    # Cells of its own for every sequence: sums over the cache run in the order they have alone, so that
    # company does not change an answer (in one common pool it did, by half-precision rounding).
    parameters.kv_unified = configuration.unified
    parameters.n_seq_max = configuration.slots
    parameters.n_ctx = configuration.context_tokens * (1 if configuration.unified else configuration.slots)
    parameters.n_batch = configuration.batch_tokens
    parameters.n_ubatch = min(configuration.ubatch_tokens, configuration.batch_tokens)
    # Rows of logits: the last token of a sequence is sampled, and drafted ones. 0 would mean the whole batch.
    parameters.n_outputs_max = configuration.slots if configuration.outputs is None else configuration.outputs
    parameters.flash_attn_type = _FLASH_ATTENTION[configuration.flash_attention]
    parameters.type_k = parameters.type_v = KV_TYPES[configuration.kv_type]
    # Sliding windows keep all positions, or a prefix could not be taken up again where it was cut.
    parameters.swa_full = configuration.full_windows
    if configuration.pooling != "none":
        parameters.embeddings = True
        parameters.pooling_type = POOLING_NUMBERS[configuration.pooling]
    return parameters


class Batch:
    """One `llama_batch` over arrays that live as long as the context; every token has one sequence."""

    def __init__(self, api: Any, size: int, sequences: int) -> None:
        self._tokens = (ctypes.c_int32 * size)()
        self._positions = (ctypes.c_int32 * size)()
        self._counts = (ctypes.c_int32 * size)(*([1] * size))
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * size)()
        self._logits = (ctypes.c_int8 * size)()
        self._ids = [
            ctypes.cast((ctypes.c_int32 * 1)(sequence), ctypes.POINTER(ctypes.c_int32))
            for sequence in range(sequences)
        ]
        self._owners = [-1] * size  # the sequences that the pointers stand for: most stay the same
        self._batch = api.llama_batch(
            n_tokens=0,
            token=self._tokens,
            embd=None,
            pos=self._positions,
            n_seq_id=self._counts,
            seq_id=self._pointers,
            logits=self._logits,
        )

    def fill(self, spans: Sequence[Span]) -> Any:
        """The batch of `spans`; it is valid until the next call."""
        end = 0
        for sequence, position, tokens, logits in spans:
            start, length = end, len(tokens)
            end += length
            if length == 1:  # almost all of them; slices cost more
                self._tokens[start] = tokens[0]
                self._positions[start] = position
                self._logits[start] = logits
            else:
                self._tokens[start:end] = [*tokens]
                self._positions[start:end] = [*range(position, position + length)]
                self._logits[start:end] = [*[0] * (length - logits), *[1] * logits]
            if self._owners[start] != sequence or length > 1:
                self._owners[start:end] = [sequence] * length
                self._pointers[start:end] = [self._ids[sequence]] * length
        self._batch.n_tokens = end
        return self._batch


class Interruption:
    """A flag that llama.cpp looks at after every operation of a graph, without entering Python.

    The callback must be C: a Python one would take the interpreter lock hundreds of times a token. Any C
    function will do that turns the pointer into "is the byte there non-zero", and `strlen` is one: of a
    string that is empty it gives 0, of "x" 1, which is false and true in the register of a C `bool`.
    """

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)
        self.address: Final = ctypes.addressof(self._flag)

    def callback(self, kind: Any) -> Any:
        """The callback as the bindings' function type."""
        return ctypes.cast(ctypes.CDLL(None).strlen, kind)

    def set(self, requested: bool) -> None:
        """Requests or withdraws the interruption."""
        self._flag[0] = b"x" if requested else b"\0"


def threads_of(options: EngineOptions, model: LlamaModel) -> int:
    """The threads that compute: as many as asked for, else by the size of model and machine."""
    if options.threads is not None:
        return options.threads
    return 1 if model.weights_bytes < _ONE_THREAD_BYTES else physical_cores()


def check_options(options: EngineOptions) -> None:
    """Raises: LoadFailed when the options do not work together."""
    if options.slots < 1 or options.batch_tokens < options.slots or options.ubatch_tokens < 1:
        raise LoadFailed(
            f"{options.slots} slots do not work with batches of {options.batch_tokens} tokens",
            hint="a batch needs room for a token of every slot",
        )
    if not 1 <= options.draft_tokens <= MAX_DRAFT_TOKENS:
        raise LoadFailed(f"`draft_tokens` is {options.draft_tokens}, outside 1 to {MAX_DRAFT_TOKENS}")
    if options.threads is not None and options.threads < 1:
        raise LoadFailed(f"`threads` is {options.threads}, but at least one must compute")
    if options.flash_attention == "off" and options.kv_type in QUANTIZED_KV:
        raise LoadFailed(f"a `{options.kv_type}` KV cache needs flash attention")
