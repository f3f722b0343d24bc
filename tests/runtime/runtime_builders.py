"""Tiny models with random weights, written as GGUF byte by byte: real enough for llama.cpp, 0.4 MB each."""

import random
import struct
from collections.abc import Sequence
from pathlib import Path

# Source: docs/gguf.md of ggml: value types, alignment, ggml_type F32.
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5
_ALIGNMENT = 32
_CONTROL, _USER_DEFINED, _NORMAL = 3, 4, 1

Pairs = Sequence[tuple[str, bytes]]
"""Keys, and values with their types in front."""
TensorData = tuple[str, tuple[int, ...], bytes]
"""Name, dimensions with the length of a row first, and the numbers."""

SPECIALS = {
    "<|endoftext|>": _CONTROL,
    "<|im_start|>": _CONTROL,
    "<|im_end|>": _CONTROL,
    "<tool_call>": _USER_DEFINED,
}

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def write_tiny_model(
    path: Path,
    *,
    context_length: int = 256,
    template: str | None = CHATML,
    seed: int = 7,
    layers: int = 2,
    further: Pairs = (),
    tags: Sequence[str] = (),
) -> Path:
    """Writes a qwen2 model and returns `path`. One token is one byte of text, but for the special names.

    `further` is metadata to be added, `tags` are further texts that are a token each.
    """
    metadata, tensors = tiny_model(
        context_length=context_length, template=template, seed=seed, layers=layers, tags=tags
    )
    path.write_bytes(gguf([*metadata, *further], tensors))
    return path


def tiny_model(
    *,
    context_length: int = 256,
    template: str | None = CHATML,
    seed: int = 7,
    layers: int = 2,
    tags: Sequence[str] = (),
) -> tuple[list[tuple[str, bytes]], list[TensorData]]:
    """Metadata and tensors of `write_tiny_model`."""
    width, heads, hidden = 64, 2, 96
    tokens = [*_byte_tokens(), *SPECIALS, *tags]
    kinds = [_NORMAL] * 256 + list(SPECIALS.values()) + [_USER_DEFINED] * len(tags)
    metadata: list[tuple[str, bytes]] = [
        ("general.architecture", text_value("qwen2")),
        ("general.name", text_value("tiny")),
        ("general.file_type", u32(0)),
        ("qwen2.block_count", u32(layers)),
        ("qwen2.context_length", u32(context_length)),
        ("qwen2.embedding_length", u32(width)),
        ("qwen2.feed_forward_length", u32(hidden)),
        ("qwen2.attention.head_count", u32(heads)),
        ("qwen2.attention.head_count_kv", u32(1)),
        ("qwen2.rope.freq_base", f32(1e6)),
        ("qwen2.attention.layer_norm_rms_epsilon", f32(1e-6)),
        ("tokenizer.ggml.model", text_value("gpt2")),
        ("tokenizer.ggml.pre", text_value("qwen2")),
        ("tokenizer.ggml.tokens", texts_value(tokens)),
        ("tokenizer.ggml.token_type", struct.pack(f"<IIQ{len(kinds)}i", _ARRAY, _I32, len(kinds), *kinds)),
        ("tokenizer.ggml.merges", texts_value([])),
        ("tokenizer.ggml.bos_token_id", u32(256)),
        ("tokenizer.ggml.eos_token_id", u32(258)),
        ("tokenizer.ggml.add_bos_token", flag(False)),
    ]
    if template is not None:
        metadata.append(("tokenizer.chat_template", text_value(template)))
    return metadata, _tensors(len(tokens), width, layers, heads, hidden, random.Random(seed))


def noise(rng: random.Random, name: str, *shape: int, scale: float = 0.25) -> TensorData:
    """A tensor of normally distributed numbers."""
    count = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return name, shape, struct.pack(f"<{count}f", *(rng.gauss(0, scale) for _ in range(count)))


def _tensors(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, rng: random.Random
) -> list[TensorData]:
    def random_tensor(name: str, *shape: int, scale: float = 0.25) -> TensorData:
        return noise(rng, name, *shape, scale=scale)

    def ones(name: str) -> TensorData:
        return name, (width,), struct.pack(f"<{width}f", *[1.0] * width)

    key = width // heads
    made = [random_tensor("token_embd.weight", width, vocabulary, scale=0.8), ones("output_norm.weight")]
    made.append(("output.weight", (width, vocabulary), _output_rows(vocabulary, width, rng)))
    for layer in range(layers):
        block = f"blk.{layer}."
        made += [ones(f"{block}attn_norm.weight"), ones(f"{block}ffn_norm.weight")]
        for name, rows in (("q", width), ("k", key), ("v", key)):
            made += [
                random_tensor(f"{block}attn_{name}.weight", width, rows),
                random_tensor(f"{block}attn_{name}.bias", rows),
            ]
        made.append(random_tensor(f"{block}attn_output.weight", width, width))
        made += [random_tensor(f"{block}ffn_{name}.weight", width, hidden) for name in ("gate", "up")]
        made.append(random_tensor(f"{block}ffn_down.weight", hidden, width))
    return made


def _output_rows(vocabulary: int, width: int, rng: random.Random) -> bytes:
    """Longer rows are likelier to win: mostly letters, now and then a byte of a longer character."""
    letters = range(97, 123)
    scales = [1.0 if token in letters else 0.7 if token < 256 else 0.1 for token in range(vocabulary)]
    return b"".join(
        struct.pack(f"<{width}f", *[rng.gauss(0, scale) for _ in range(width)]) for scale in scales
    )


def gguf(metadata: Pairs, tensors: Sequence[TensorData]) -> bytes:
    """A whole file. All tensors are F32."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_text(key) + value for key, value in metadata)
    offset = 0
    body = b""
    for name, shape, content in tensors:
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        padded = content + b"\0" * (-len(content) % _ALIGNMENT)
        offset += len(padded)
        body += padded
    return head + b"\0" * (-len(head) % _ALIGNMENT) + body


def _byte_tokens() -> list[str]:
    """The letters that stand for the 256 bytes in byte-level BPE. Source: GPT-2's `bytes_to_unicode`."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def text_value(value: str) -> bytes:
    """A text with its type."""
    return struct.pack("<I", _STRING) + _text(value)


def texts_value(values: Sequence[str]) -> bytes:
    """An array of texts with its type."""
    return struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + b"".join(map(_text, values))


def u32(value: int) -> bytes:
    """A number with its type."""
    return struct.pack("<II", _U32, value)


def f32(value: float) -> bytes:
    """A fraction with its type."""
    return struct.pack("<If", _F32, value)


def flag(value: bool) -> bytes:
    """A truth value with its type."""
    return struct.pack("<I?", _BOOL, value)
