"""A context in llama.cpp that computes spans: batches, KV memory, samplers, interruption."""

import ctypes
from collections.abc import Sequence
from typing import Any, Final

from qwenctl.errors import LoadFailed, UsageError
from qwenctl.model.memory.configuration import KV_TYPES, QUANTIZED_KV, Configuration
from qwenctl.model.memory.figures import Estimate
from qwenctl.runtime.batches import Outcome, Span
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
# Source: llama.h, llama_decode: 2 is "aborted", 0 success, everything else an error or a full cache.
_DECODED: Final = 0
_ABORTED: Final = 2
# Source: llama-context.cpp, llama_context::decode, for a graph or outputs that found no room.
_NO_MEMORY: Final = -2


class LlamaDecoder:
    """`batches.Decoder` on a model that the caller keeps open and closes afterwards."""

    def __init__(self, model: LlamaModel, options: EngineOptions, context_length: int) -> None:
        """Raises: LoadFailed when the options do not work together or memory is short."""
        _check(options)
        self._model = model
        self._api = model.library.api
        self._log = model.library.log
        self._interruption = _Interruption()
        try:
            self._configuration = options.configuration(context_length)
        except UsageError as error:
            raise LoadFailed(error.message, hint=error.hint) from error
        parameters = self._parameters(options)
        self._log.clear()
        self._context = self._api.llama_init_from_model(model.handle, parameters)
        if not self._context:
            raise refused(model.library, options.path, f"a context of {context_length} tokens")
        self._memory = self._api.llama_get_memory(self._context)
        if not self._memory or self._api.llama_model_has_encoder(model.handle):
            self.close()
            raise LoadFailed(f"a `{model.architecture}` model does not generate text from a prompt alone")
        self.batch_tokens: Final = int(self._api.llama_n_batch(self._context))
        self._batch = _Batch(self._api, self.batch_tokens, options.slots)
        self.piece = model.vocabulary.piece
        self.ends = model.vocabulary.ends

    def memory(self) -> Estimate | None:
        """llama.cpp's account of the buffers of model and context; None where it gives none."""
        model = self._model
        size, layers = model.vocabulary.size, model.layers + 1
        return read_memory(model.library, self._context, self._configuration, layers, size, "loaded")

    def _parameters(self, options: EngineOptions) -> Any:
        parameters = context_parameters(self._api, self._configuration)
        parameters.n_threads = parameters.n_threads_batch = _threads(options, self._model)
        parameters.op_offload = not self._model.cpu_only
        parameters.abort_callback = self._interruption.callback(type(parameters.abort_callback))
        parameters.abort_callback_data = self._interruption.address
        parameters.no_perf = True
        return parameters

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """See `batches.Decoder`."""
        self._log.clear()
        code = self._api.llama_decode(self._context, self._batch.fill(spans))
        if code == _DECODED:
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

    def sampler(self, sampling: Sampling, history: Sequence[int]) -> LlamaSampler:
        """See `batches.Decoder`. Raises: InvalidRequest for a grammar or a token that the model has not."""
        return LlamaSampler(self._model, self._context, sampling, history)

    def interrupt(self, requested: bool) -> None:
        """See `batches.Decoder`."""
        self._interruption.set(requested)

    def close(self) -> None:
        """Frees the context. Call once, when no thread decodes."""
        self._api.llama_free(self._context)


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
    # Rows of logits: only the last token of a sequence is sampled. 0 would mean one for each of n_batch.
    parameters.n_outputs_max = configuration.slots if configuration.outputs is None else configuration.outputs
    parameters.flash_attn_type = _FLASH_ATTENTION[configuration.flash_attention]
    parameters.type_k = parameters.type_v = KV_TYPES[configuration.kv_type]
    # Sliding windows keep all positions, or a prefix could not be taken up again where it was cut.
    parameters.swa_full = configuration.full_windows
    return parameters


class _Batch:
    """One `llama_batch` over arrays that live as long as the context; every token has one sequence."""

    def __init__(self, api: Any, size: int, sequences: int) -> None:
        self._tokens = (ctypes.c_int32 * size)()
        self._positions = (ctypes.c_int32 * size)()
        self._counts = (ctypes.c_int32 * size)(*([1] * size))
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * size)()
        self._logits = (ctypes.c_int8 * size)()
        self._ids = [(ctypes.c_int32 * 1)(sequence) for sequence in range(sequences)]
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
        for span in spans:
            start, length = end, len(span.tokens)
            end += length
            pointer = ctypes.cast(self._ids[span.sequence], ctypes.POINTER(ctypes.c_int32))
            self._tokens[start:end] = [*span.tokens]
            self._positions[start:end] = [*range(span.start, span.start + length)]
            self._pointers[start:end] = [pointer] * length
            self._logits[start:end] = [0] * length
            self._logits[end - 1] = span.logits
        self._batch.n_tokens = end
        return self._batch


class _Interruption:
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


def _threads(options: EngineOptions, model: LlamaModel) -> int:
    if options.threads is not None:
        return options.threads
    return 1 if model.weights_bytes < _ONE_THREAD_BYTES else physical_cores()


def _check(options: EngineOptions) -> None:
    if options.slots < 1 or options.batch_tokens < options.slots or options.ubatch_tokens < 1:
        raise LoadFailed(
            f"{options.slots} slots do not work with batches of {options.batch_tokens} tokens",
            hint="a batch needs room for a token of every slot",
        )
    if options.threads is not None and options.threads < 1:
        raise LoadFailed(f"`threads` is {options.threads}, but at least one must compute")
    if options.flash_attention == "off" and options.kv_type in QUANTIZED_KV:
        raise LoadFailed(f"a `{options.kv_type}` KV cache needs flash attention")
