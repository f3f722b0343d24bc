"""`Outline`: the tensors of a dense or mixture-of-experts transformer, told from a few numbers.

The scalars of a header stand before its vocabulary, the tensor table behind it: 6 MB lie between them in a
Qwen2.5 file. The numbers in front say already which tensors there are and how large; only their types are a
choice of who quantized, see `mix`.

Source: llama.cpp 0c1e5709, src/models/{qwen2,qwen3,qwen3moe,llama,gemma2,gemma3}.cpp (`load_arch_tensors`)
for the tensors and their dimensions; src/llama-model-loader.h (`weight_name_comparer`) for their order in
a quantized file; gguf-py/gguf/constants.py for the names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from qwenctl.model.gguf import TENSOR_LIMIT, Array, Value

_LAYER_LIMIT: Final = 256  # layers; the largest models have 126
_SIZE_LIMIT: Final = 1 << 31  # of any width or count; llama.cpp reads them as 32-bit numbers
_HEAD_DIVISOR: Final = 2  # a rotary factor for each pair of a head's numbers

Dimensions = tuple[int, ...]
Slot = tuple[str, Dimensions]
"""A tensor without a type: its name and dimensions, the length of a row first."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What the layers of an architecture have besides the common part."""

    biased: bool = False
    normed_heads: bool = False
    post_norms: bool = False
    always_tied: bool = False
    experts: bool = False


ARCHITECTURES: Final[Mapping[str, Traits]] = {
    "llama": Traits(),
    "qwen2": Traits(biased=True),
    "qwen3": Traits(normed_heads=True),
    "qwen3moe": Traits(normed_heads=True, experts=True),
    "gemma2": Traits(post_norms=True, always_tied=True),
    "gemma3": Traits(normed_heads=True, post_norms=True, always_tied=True),
}
"""By `general.architecture`."""


@dataclass(frozen=True, slots=True)
class Outline:
    """A model in numbers, named as GGUF's keys. `key_length` and `value_length` are those of one head.

    `tied` means that the token embedding serves as the output too. `rope_factors` is the length of
    `rope_freqs.weight`, 0 without it. `expert_feed_forward_length` is the width of one expert.
    """

    architecture: str
    block_count: int
    embedding_length: int
    feed_forward_length: int
    head_count: int
    head_count_kv: int
    key_length: int
    value_length: int
    vocabulary_size: int
    tied: bool = False
    rope_factors: int = 0
    expert_count: int = 0
    expert_feed_forward_length: int = 0

    @classmethod
    def of(cls, metadata: Mapping[str, Value]) -> Self | None:
        """The outline in a header's scalars, untied and without rotary factors, which those do not tell.

        None for an architecture that is not known here, or numbers that are absent or impossible.
        """
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
            return None
        keys = _Numbers(metadata, architecture)
        heads, width = keys.get("attention.head_count"), keys.get("embedding_length")
        head = width // heads if heads else 0
        experts = ARCHITECTURES[architecture].experts
        outline = cls(
            architecture=architecture,
            block_count=keys.get("block_count"),
            embedding_length=width,
            feed_forward_length=keys.get("feed_forward_length", int(experts)),
            head_count=heads,
            head_count_kv=keys.get("attention.head_count_kv", heads),
            key_length=keys.get("attention.key_length", head),
            value_length=keys.get("attention.value_length", head),
            vocabulary_size=_vocabulary_size(metadata),
            tied=ARCHITECTURES[architecture].always_tied,
            expert_count=keys.get("expert_count"),
            expert_feed_forward_length=keys.get("expert_feed_forward_length"),
        )
        return outline if outline.possible else None

    @property
    def possible(self) -> bool:
        """Whether the numbers can be those of a model that is described here."""
        needed = (
            self.block_count,
            self.embedding_length,
            self.feed_forward_length,
            self.head_count,
            self.head_count_kv,
            self.key_length,
            self.value_length,
            self.vocabulary_size,
        )
        expert = (self.expert_count, self.expert_feed_forward_length)
        if self.block_count > _LAYER_LIMIT or min(needed) < 1 or max(needed + expert) >= _SIZE_LIMIT:
            return False
        return min(expert) > 0 if self.traits.experts else self.expert_count == 0

    @property
    def traits(self) -> Traits:
        """What is particular to the architecture."""
        return ARCHITECTURES[self.architecture]

    @property
    def tensor_count(self) -> int:
        """The number of tensors."""
        layer = sum(1 for _ in _layer(self, 0))
        return layer * self.block_count + 2 + int(not self.tied) + int(self.rope_factors > 0)

    def variants(self, tensor_count: int) -> tuple[Self, ...]:
        """The outlines with this many tensors: tied or not, with rotary factors or not."""
        if tensor_count > TENSOR_LIMIT:
            return ()
        ties = (True,) if self.traits.always_tied else (True, False)
        factors = (0, self.key_length // _HEAD_DIVISOR) if self.architecture == "llama" else (0,)
        every = (replace(self, tied=tied, rope_factors=count) for tied in ties for count in factors)
        return tuple(outline for outline in every if outline.tensor_count == tensor_count)

    def slots(self) -> tuple[Slot, ...]:
        """All tensors, in the order of a file that llama.cpp quantized: by layer, then by name."""
        width, words = self.embedding_length, self.vocabulary_size
        whole: list[Slot] = [("output_norm.weight", (width,)), ("token_embd.weight", (width, words))]
        if not self.tied:
            whole.append(("output.weight", (width, words)))
        if self.rope_factors:
            whole.append(("rope_freqs.weight", (self.rope_factors,)))
        layers = (sorted(_layer(self, index)) for index in range(self.block_count))
        return tuple(sorted(whole)) + tuple(slot for layer in layers for slot in layer)


class _Numbers:
    """Whole numbers under an architecture's keys; 0, which no model has, for what is no such number."""

    def __init__(self, metadata: Mapping[str, Value], architecture: str) -> None:
        self._metadata = metadata
        self._architecture = architecture

    def get(self, key: str, default: int = 0) -> int:
        value = self._metadata.get(f"{self._architecture}.{key}", default)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _vocabulary_size(metadata: Mapping[str, Value]) -> int:
    tokens = metadata.get("tokenizer.ggml.tokens")
    return tokens.length if isinstance(tokens, Array) else 0


def _layer(outline: Outline, index: int) -> Iterator[Slot]:
    width = outline.embedding_length
    for name, dimensions in (*_attention(outline), *_feed_forward(outline)):
        yield f"blk.{index}.{name}", dimensions
    for name in ("attn_norm", "ffn_norm"):
        yield f"blk.{index}.{name}.weight", (width,)
    if outline.traits.post_norms:
        yield f"blk.{index}.post_attention_norm.weight", (width,)
        yield f"blk.{index}.post_ffw_norm.weight", (width,)


def _attention(outline: Outline) -> Iterator[Slot]:
    width, heads = outline.embedding_length, outline.head_count
    query, key = heads * outline.key_length, outline.head_count_kv * outline.key_length
    value = outline.head_count_kv * outline.value_length
    for name, length in (("attn_q", query), ("attn_k", key), ("attn_v", value)):
        yield f"{name}.weight", (width, length)
        if outline.traits.biased:
            yield f"{name}.bias", (length,)
    yield "attn_output.weight", (heads * outline.value_length, width)
    if outline.traits.normed_heads:
        yield "attn_q_norm.weight", (outline.key_length,)
        yield "attn_k_norm.weight", (outline.key_length,)


def _feed_forward(outline: Outline) -> Iterator[Slot]:
    width, inner, count = outline.embedding_length, outline.feed_forward_length, outline.expert_count
    if not outline.traits.experts:
        yield "ffn_gate.weight", (width, inner)
        yield "ffn_up.weight", (width, inner)
        yield "ffn_down.weight", (inner, width)
        return
    one = outline.expert_feed_forward_length
    yield "ffn_gate_inp.weight", (width, count)
    yield "ffn_gate_exps.weight", (width, one, count)
    yield "ffn_up_exps.weight", (width, one, count)
    yield "ffn_down_exps.weight", (one, width, count)
