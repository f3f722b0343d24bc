"""Tiny models that turn texts into vectors or scores: a qwen3 and a bert, with random weights."""

import random
import struct
from pathlib import Path

from tests.runtime.runtime_builders import (
    Pairs,
    TensorData,
    f32,
    flag,
    gguf,
    noise,
    text_value,
    texts_value,
    tiny_model,
    u32,
)

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
_WIDTH, _HEADS, _HEAD, _HIDDEN = 64, 2, 32, 96
_LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
_BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{c}" for c in _LETTERS), *_LETTERS]
_UNKNOWN, _FIRST, _SEPARATOR = 1, 2, 3


def write_qwen3(
    path: Path,
    *,
    context_length: int = 256,
    pooling: int | None = LAST,
    labels: tuple[str, ...] = (),
    further: Pairs = (),
) -> Path:
    """A model like Qwen3-Embedding: every text ends in `<|im_end|>`. One token is one byte.

    With `labels` it ends in a classifier, like Qwen3-Reranker.
    """
    metadata, tensors = tiny_model(context_length=context_length)
    pairs = [(key.replace("qwen2.", "qwen3."), value) for key, value in metadata]
    pairs[0] = ("general.architecture", text_value("qwen3"))
    pairs.append(("tokenizer.ggml.add_eos_token", flag(True)))
    if pooling is not None:
        pairs.append(("qwen3.pooling_type", u32(pooling)))
    kept = [tensor for tensor in tensors if not tensor[0].endswith(".bias")]
    for layer in range(2):
        for name in ("attn_q_norm", "attn_k_norm"):
            kept.append(_ones(f"blk.{layer}.{name}.weight", _HEAD))
    if labels:
        pairs.append(("qwen3.classifier.output_labels", texts_value(labels)))
        kept.append(noise(random.Random(5), "cls.output.weight", _WIDTH, len(labels), scale=0.3))
    path.write_bytes(gguf([*pairs, *further], kept))
    return path


def write_bert(
    path: Path, *, context_length: int = 128, pooling: int | None = MEAN, ranks: bool = False
) -> Path:
    """A model like BERT: `[CLS] … [SEP]`, one token is one letter. With `ranks` it ends in a classifier."""
    rng = random.Random(3)
    pairs: list[tuple[str, bytes]] = [
        ("general.architecture", text_value("bert")),
        ("general.file_type", u32(0)),
        ("bert.block_count", u32(2)),
        ("bert.context_length", u32(context_length)),
        ("bert.embedding_length", u32(_WIDTH)),
        ("bert.feed_forward_length", u32(_HIDDEN)),
        ("bert.attention.head_count", u32(_HEADS)),
        ("bert.attention.layer_norm_epsilon", f32(1e-12)),
        ("bert.attention.causal", flag(False)),
        ("tokenizer.ggml.model", text_value("bert")),
        ("tokenizer.ggml.tokens", texts_value(_BERT_TOKENS)),
        ("tokenizer.ggml.token_type_count", u32(2)),
        ("tokenizer.ggml.bos_token_id", u32(_FIRST)),
        ("tokenizer.ggml.seperator_token_id", u32(_SEPARATOR)),
        ("tokenizer.ggml.unknown_token_id", u32(_UNKNOWN)),
        ("tokenizer.ggml.padding_token_id", u32(0)),
    ]
    if pooling is not None:
        pairs.append(("bert.pooling_type", u32(pooling)))
    tensors = [
        noise(rng, "token_embd.weight", _WIDTH, len(_BERT_TOKENS), scale=1.0),
        noise(rng, "token_types.weight", _WIDTH, 2),
        noise(rng, "position_embd.weight", _WIDTH, context_length),
        *_norm(rng, "token_embd_norm"),
    ]
    for layer in range(2):
        tensors += _bert_layer(rng, f"blk.{layer}")
    if ranks:
        tensors += [*_linear(rng, "cls", _WIDTH, _WIDTH), *_linear(rng, "cls.output", _WIDTH, 1)]
    path.write_bytes(gguf(pairs, tensors))
    return path


def _bert_layer(rng: random.Random, block: str) -> list[TensorData]:
    made: list[TensorData] = []
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        made += _linear(rng, f"{block}.{name}", _WIDTH, _WIDTH)
    made += _norm(rng, f"{block}.attn_output_norm")
    made += _linear(rng, f"{block}.ffn_up", _WIDTH, _HIDDEN)
    made += _linear(rng, f"{block}.ffn_down", _HIDDEN, _WIDTH)
    return [*made, *_norm(rng, f"{block}.layer_output_norm")]


def _linear(rng: random.Random, name: str, columns: int, rows: int) -> list[TensorData]:
    return [noise(rng, f"{name}.weight", columns, rows), noise(rng, f"{name}.bias", rows)]


def _norm(rng: random.Random, name: str) -> list[TensorData]:
    return [_ones(f"{name}.weight", _WIDTH), noise(rng, f"{name}.bias", _WIDTH)]


def _ones(name: str, length: int) -> TensorData:
    return name, (length,), struct.pack(f"<{length}f", *[1.0] * length)
