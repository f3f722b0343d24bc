"""How a model is to be loaded, as far as memory depends on it."""

from dataclasses import dataclass
from math import isfinite
from typing import Final, Literal

import msgspec

from qwenctl.errors import UsageError
from qwenctl.model.purpose import Pooling, Use

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
FlashAttention = Literal["auto", "on", "off"]

KV_TYPES: Final[dict[str, int]] = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "bf16": 30,
}
"""The numbers of the cache's types. Source: ggml.h, enum ggml_type."""
QUANTIZED_KV: Final = frozenset({"q8_0", "q5_1", "q5_0", "q4_1", "q4_0"})

ALL_LAYERS: Final = -1
MAX_SLOTS: Final = 256
"""Source: llama-cparams.h, LLAMA_MAX_SEQ."""
CONTEXT_LIMIT: Final = 1 << 24
"""Tokens; the largest that any model was trained for is 10 million."""
TEXTS_AT_ONCE: Final = 32
"""Texts that one computation turns into vectors at the most."""
_CONTEXT_STEP: Final = 256


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is loaded. `context_tokens` is what one request may hold.

    Each of the `slots` has a whole context of its own in the KV cache (unless `unified`, where they share
    one). `outputs` is the rows of logits that one computation may ask for; None is one a slot, as our engine
    has it, 0 is llama.cpp's own default of one for each token of a batch. `gpu_layers` counts the output
    layer first, as llama.cpp does; -1 is all. `tensor_split` are the shares of the GPUs; empty is by their
    free memory. `full_windows`: sliding windows keep all positions (llama.cpp's `swa_full`). `pooling` other
    than none is a context for vectors of texts, see `for_texts`.

    Raises: UsageError for what llama.cpp refuses.
    """

    context_tokens: int
    slots: int = 1
    batch_tokens: int = 512
    ubatch_tokens: int = 512
    flash_attention: FlashAttention = "auto"
    kv_type: KvType = "f16"
    gpu_layers: int = ALL_LAYERS
    tensor_split: tuple[float, ...] = ()
    outputs: int | None = None
    unified: bool = False
    full_windows: bool = True
    pooling: Pooling = "none"

    def __post_init__(self) -> None:
        _check("context", self.context_tokens, 1, CONTEXT_LIMIT)
        _check("slots", self.slots, 1, MAX_SLOTS)
        _check("batch", self.batch_tokens, self.slots, CONTEXT_LIMIT)
        _check("micro-batch", self.ubatch_tokens, 1, CONTEXT_LIMIT)
        _check("gpu layers", self.gpu_layers, ALL_LAYERS, 1 << 16)
        if not all(isfinite(share) and share >= 0 for share in self.tensor_split):
            raise UsageError("the shares of the GPUs must be numbers from 0 up")
        if self.flash_attention == "off" and self.kv_type in QUANTIZED_KV:
            raise UsageError(
                f"a `{self.kv_type}` KV cache needs flash attention",
                hint="leave flash attention on, or take f16",
            )


def for_texts(configuration: Configuration, use: Use) -> Configuration:
    """The context that turns texts into vectors where `configuration` would generate.

    Its texts share one cache. A text that must be computed in one piece makes the batch as large as the
    context, and there every token has a row of outputs; else only the last of each text has.
    """
    tokens = configuration.context_tokens
    batch = tokens if use.whole else min(tokens, configuration.batch_tokens)
    texts = min(TEXTS_AT_ONCE, batch)
    return msgspec.structs.replace(
        configuration,
        slots=texts,
        unified=True,
        batch_tokens=batch,
        ubatch_tokens=batch if use.whole else min(batch, configuration.ubatch_tokens),
        outputs=0 if use.whole else texts,
        pooling=use.pooling,
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """A configuration as llama.cpp normalises it.

    `cells` are the positions of one stream of the cache, of which there are `streams`. One computation has
    at most `tokens` tokens and `outputs` rows of logits. Source: llama-context.cpp, `llama_context` and
    `sched_reserve`.
    """

    context: int
    cells: int
    streams: int
    tokens: int
    outputs: int
    sequences: int


def normalise(configuration: Configuration) -> Sizes:
    """The sizes that llama.cpp works with for this configuration."""
    slots = configuration.slots
    asked = configuration.context_tokens * (1 if configuration.unified else slots)
    batch = min(asked, configuration.batch_tokens)
    ubatch = min(batch, configuration.ubatch_tokens)
    outputs = slots if configuration.outputs is None else configuration.outputs or batch
    context = _padded(asked)
    cells = context
    if not configuration.unified:
        cells = _padded(context // slots)
        context = cells * slots
    tokens = min(context, ubatch)
    return Sizes(
        context=context,
        cells=cells,
        streams=1 if configuration.unified else slots,
        tokens=-(-tokens // slots) * slots,  # graph_reserve rounds up to whole sequences
        outputs=min(tokens, outputs),
        sequences=slots,
    )


def logit_rows(configuration: Configuration) -> int:
    """Rows of logits that the host's buffer grows to. Source: llama-context.cpp, `output_reserve`."""
    sizes = normalise(configuration)
    # Who generates never asks for all the rows that llama.cpp's own default allows.
    all_allowed = configuration.outputs == 0 and configuration.pooling == "none"
    return sizes.sequences if all_allowed else max(sizes.sequences, sizes.outputs)


def _padded(tokens: int) -> int:
    return -(-tokens // _CONTEXT_STEP) * _CONTEXT_STEP


def _check(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{what} of {value} is not between {least} and {most}")
