"""A tiny qwen2 model with random weights, written as GGUF byte by byte: real enough for llama.cpp, 0.4 MB."""

import random
import struct
from pathlib import Path

# Source: docs/gguf.md of ggml: value types, alignment, ggml_type F32.
_U32, _F32, _BOOL, _STRING, _ARRAY, _I32 = 4, 6, 7, 8, 9, 5
_ALIGNMENT = 32
_CONTROL, _USER_DEFINED, _NORMAL = 3, 4, 1

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
    path: Path, *, context_length: int = 256, template: str | None = CHATML, seed: int = 7, layers: int = 2
) -> Path:
    """Writes the model and returns `path`. One token is one byte of text, but for the special names."""
    width, heads, hidden = 64, 2, 96
    tokens = [*_byte_tokens(), *SPECIALS]
    kinds = [_NORMAL] * 256 + list(SPECIALS.values())
    metadata: list[tuple[str, bytes]] = [
        ("general.architecture", _string("qwen2")),
        ("general.name", _string("tiny")),
        ("general.file_type", _u32(0)),
        ("qwen2.block_count", _u32(layers)),
        ("qwen2.context_length", _u32(context_length)),
        ("qwen2.embedding_length", _u32(width)),
        ("qwen2.feed_forward_length", _u32(hidden)),
        ("qwen2.attention.head_count", _u32(heads)),
        ("qwen2.attention.head_count_kv", _u32(1)),
        ("qwen2.rope.freq_base", struct.pack("<If", _F32, 1e6)),
        ("qwen2.attention.layer_norm_rms_epsilon", struct.pack("<If", _F32, 1e-6)),
        ("tokenizer.ggml.model", _string("gpt2")),
        ("tokenizer.ggml.pre", _string("qwen2")),
        ("tokenizer.ggml.tokens", _strings(tokens)),
        ("tokenizer.ggml.token_type", struct.pack(f"<IIQ{len(kinds)}i", _ARRAY, _I32, len(kinds), *kinds)),
        ("tokenizer.ggml.merges", _strings([])),
        ("tokenizer.ggml.bos_token_id", _u32(256)),
        ("tokenizer.ggml.eos_token_id", _u32(258)),
        ("tokenizer.ggml.add_bos_token", struct.pack("<I?", _BOOL, False)),
    ]
    if template is not None:
        metadata.append(("tokenizer.chat_template", _string(template)))
    tensors = _tensors(len(tokens), width, layers, heads, hidden, random.Random(seed))
    path.write_bytes(_gguf(metadata, tensors))
    return path


def _tensors(
    vocabulary: int, width: int, layers: int, heads: int, hidden: int, rng: random.Random
) -> list[tuple[str, tuple[int, ...], bytes]]:
    def noise(name: str, *shape: int, scale: float = 0.25) -> tuple[str, tuple[int, ...], bytes]:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [rng.gauss(0, scale) for _ in range(count)]
        return name, shape, struct.pack(f"<{count}f", *values)

    def ones(name: str) -> tuple[str, tuple[int, ...], bytes]:
        return name, (width,), struct.pack(f"<{width}f", *[1.0] * width)

    key = width // heads
    made = [noise("token_embd.weight", width, vocabulary, scale=0.8), ones("output_norm.weight")]
    made.append(("output.weight", (width, vocabulary), _output_rows(vocabulary, width, rng)))
    for layer in range(layers):
        block = f"blk.{layer}."
        made += [ones(f"{block}attn_norm.weight"), ones(f"{block}ffn_norm.weight")]
        for name, rows in (("q", width), ("k", key), ("v", key)):
            made += [
                noise(f"{block}attn_{name}.weight", width, rows),
                noise(f"{block}attn_{name}.bias", rows),
            ]
        made.append(noise(f"{block}attn_output.weight", width, width))
        made += [noise(f"{block}ffn_{name}.weight", width, hidden) for name in ("gate", "up")]
        made.append(noise(f"{block}ffn_down.weight", hidden, width))
    return made


def _output_rows(vocabulary: int, width: int, rng: random.Random) -> bytes:
    """Longer rows are likelier to win: mostly letters, now and then a byte of a longer character."""
    letters = range(97, 123)
    scales = [1.0 if token in letters else 0.7 if token < 256 else 0.1 for token in range(vocabulary)]
    return b"".join(
        struct.pack(f"<{width}f", *[rng.gauss(0, scale) for _ in range(width)]) for scale in scales
    )


def _gguf(metadata: list[tuple[str, bytes]], tensors: list[tuple[str, tuple[int, ...], bytes]]) -> bytes:
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


def _string(value: str) -> bytes:
    return struct.pack("<I", _STRING) + _text(value)


def _strings(values: list[str]) -> bytes:
    return struct.pack("<IIQ", _ARRAY, _STRING, len(values)) + b"".join(map(_text, values))


def _u32(value: int) -> bytes:
    return struct.pack("<II", _U32, value)
