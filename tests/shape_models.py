"""Model files with the real shapes of well-known models and nothing in them: a header and a hole.

llama.cpp opens them without allocating (`no_alloc`), and they have the size of the real file on the wire and
6 MB at most on disk. The tensors' types are those of llama.cpp's quantizer (`qwenctl.model.mix`, which
`tests/model/test_mix.py` compares with the quantizer itself).

Source: the `config.json` of each model; llama.cpp 0c1e5709, conversion/*.py, for the keys and their order:
the converter writes `general.file_type` before the vocabulary, the quantizer moves it to the end.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from qwenctl.model.gguf import Array, Tensor, ValueType
from qwenctl.model.mix import PREDICTED, padded_bytes, predict_tensors
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import FILE_TYPES, TENSOR_TYPES
from tests.model.gguf_builders import Value, metadata_value, text

Vocabulary = Literal["dummy", "real-size"]
Pair = tuple[str, Value | bytes]

QUANTIZATIONS: Final = tuple(FILE_TYPES[number] for number in sorted(PREDICTED))
"""What a shape model can be quantized to."""

_ALIGNMENT: Final = 32
_CONVERTED: Final = ("F32", "F16", "BF16")
_TEMPLATE: Final = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_BYTES_AT: Final = 217  # where Gemma's tokens for single bytes begin
_NEWLINE: Final = 198  # where GPT-2's alphabet of bytes has the end of a line, as `Ċ`
_DIGITS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Tokenizer:
    """A family's tokenizer: names, special tokens, and the bytes of its arrays' elements in a real file.

    `padding_bytes` is what each token beyond `count` adds: `[PAD151936]` with its length.
    """

    model: str
    pre: str
    special: Mapping[int, str]
    bos: int
    eos: int
    pad: int
    count: int
    tokens_bytes: int
    padding_bytes: int = 0
    merges: int = 0
    merges_bytes: int = 0


QWEN: Final = Tokenizer(
    "gpt2",
    "qwen2",
    {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"},
    151643,
    151645,
    151643,
    151_936,
    2_588_196,
    19,
    151_387,
    2_731_548,
)
LLAMA3: Final = Tokenizer(
    "gpt2",
    "llama-bpe",
    {128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128009: "<|eot_id|>"},
    128000,
    128009,
    128004,
    128_256,
    2_099_493,
    0,
    280_147,
    5_204_765,
)
GEMMA: Final = Tokenizer(
    "llama",
    "default",
    {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>", 106: "<start_of_turn>", 107: "<end_of_turn>"},
    2,
    1,
    0,
    262_144,
    4_413_447,
)
GEMMA2: Final = replace(GEMMA, count=256_000, tokens_bytes=3_979_100)


@dataclass(frozen=True)
class ModelShape:
    """A model as its config.json has it. `further` are keys of its architecture beyond the outline's."""

    label: str
    outline: Outline
    tokenizer: Tokenizer
    context_length: int
    rope_base: float
    further: Mapping[str, Value] = field(default_factory=dict)


def _qwen25(layers: int, width: int, heads: int, kv: int, inner: int, label: str) -> ModelShape:
    tied = width <= 2048
    head, words = width // heads, 151_936 if tied else 152_064
    outline = Outline("qwen2", layers, width, inner, heads, kv, head, head, words, tied)
    return ModelShape(f"Qwen2.5 {label} Instruct", outline, QWEN, 32_768, 1e6)


def _qwen3(layers: int, width: int, heads: int, inner: int, label: str) -> ModelShape:
    outline = Outline("qwen3", layers, width, inner, heads, 8, 128, 128, 151_936, width <= 2560)
    return ModelShape(f"Qwen3 {label}", outline, QWEN, 40_960, 1e6)


def _qwen3moe() -> ModelShape:
    outline = Outline("qwen3moe", 48, 2048, 6144, 32, 4, 128, 128, 151_936, False, 0, 128, 768)
    return ModelShape("Qwen3 30B A3B", outline, QWEN, 40_960, 1e6, {"expert_used_count": 8})


def _llama3(layers: int, width: int, heads: int, inner: int, label: str) -> ModelShape:
    head, tied = width // heads, layers < 32
    outline = Outline("llama", layers, width, inner, heads, 8, head, head, 128_256, tied, head // 2)
    further = {"vocab_size": 128_256, "rope.dimension_count": head}
    return ModelShape(f"Llama {label} Instruct", outline, LLAMA3, 131_072, 5e5, further)


def _gemma3(layers: int, width: int, heads: int, kv: int, inner: int, label: str) -> ModelShape:
    small = layers == 26
    outline = Outline("gemma3", layers, width, inner, heads, kv, 256, 256, 262_144, True)
    further: dict[str, Value] = {"attention.sliding_window": 512 if small else 1024}
    if not small:
        further |= {"rope.scaling.type": "linear", "rope.scaling.factor": 8.0}
    return ModelShape(f"Gemma 3 {label} It", outline, GEMMA, 32_768 if small else 131_072, 1e6, further)


def _gemma2() -> ModelShape:
    outline = Outline("gemma2", 26, 2304, 9216, 8, 4, 256, 256, 256_000, True)
    further = {
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "attention.sliding_window": 4096,
    }
    return ModelShape("Gemma 2 2b It", outline, GEMMA2, 8192, 1e4, further)


SHAPES: Final[Mapping[str, ModelShape]] = {
    "qwen2.5-0.5b": _qwen25(24, 896, 14, 2, 4864, "0.5B"),
    "qwen2.5-1.5b": _qwen25(28, 1536, 12, 2, 8960, "1.5B"),
    "qwen2.5-3b": _qwen25(36, 2048, 16, 2, 11_008, "3B"),
    "qwen2.5-7b": _qwen25(28, 3584, 28, 4, 18_944, "7B"),
    "qwen2.5-14b": _qwen25(48, 5120, 40, 8, 13_824, "14B"),
    "qwen2.5-32b": _qwen25(64, 5120, 40, 8, 27_648, "32B"),
    "qwen2.5-72b": _qwen25(80, 8192, 64, 8, 29_568, "72B"),
    "qwen3-0.6b": _qwen3(28, 1024, 16, 3072, "0.6B"),
    "qwen3-1.7b": _qwen3(28, 2048, 16, 6144, "1.7B"),
    "qwen3-4b": _qwen3(36, 2560, 32, 9728, "4B"),
    "qwen3-8b": _qwen3(36, 4096, 32, 12_288, "8B"),
    "qwen3-14b": _qwen3(40, 5120, 40, 17_408, "14B"),
    "qwen3-32b": _qwen3(64, 5120, 64, 25_600, "32B"),
    "qwen3-30b-a3b": _qwen3moe(),
    "llama-3.2-1b": _llama3(16, 2048, 32, 8192, "3.2 1B"),
    "llama-3.2-3b": _llama3(28, 3072, 24, 8192, "3.2 3B"),
    "llama-3.1-8b": _llama3(32, 4096, 32, 14_336, "3.1 8B"),
    "gemma-3-1b": _gemma3(26, 1152, 4, 1, 6912, "1b"),
    "gemma-3-4b": _gemma3(34, 2560, 8, 4, 10_240, "4b"),
    "gemma-3-12b": _gemma3(48, 3840, 16, 8, 15_360, "12b"),
    "gemma-2-2b": _gemma2(),
}
"""By short name."""


def write_shape_model(
    path: Path,
    shape: str | ModelShape,
    quantization: str,
    *,
    vocabulary: Vocabulary = "dummy",
    retyped: Mapping[str, str] | None = None,
) -> Path:
    """Write a model of this shape, or of that name in `SHAPES`, in one of `QUANTIZATIONS` to `path`; `path`.

    The tensors are a hole in the file. The tokens of a `dummy` vocabulary are as short as can be; a
    `real-size` one has the real one's length in bytes. `retyped` makes a mix of one's own: the names of
    types (`Q8_0`) by the ends of tensors' names.
    """
    model = SHAPES[shape] if isinstance(shape, str) else shape
    tensors = _tensors(model.outline, quantization, retyped or {})
    header = _header(model, quantization, vocabulary, tensors)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + padded_bytes(tensors))
    return path


def outline_metadata(outline: Outline) -> dict[str, int | float | str | Array]:
    """What a reader finds of an outline in a file's metadata."""
    keys = {f"{outline.architecture}.{key}": value for key, value in _sizes(outline)}
    tokens = Array(ValueType.STRING, outline.vocabulary_size, None)
    return {"general.architecture": outline.architecture, **keys, "tokenizer.ggml.tokens": tokens}


def _tensors(outline: Outline, quantization: str, retyped: Mapping[str, str]) -> list[Tensor]:
    file_type = next(number for number, name in FILE_TYPES.items() if name == quantization)
    predicted = predict_tensors(outline, file_type)
    assert predicted is not None, quantization
    numbers = {kind.name: number for number, kind in TENSOR_TYPES.items()}
    tensors: list[Tensor] = []
    offset = 0
    for tensor in predicted:
        named = next((kind for end, kind in retyped.items() if tensor.name.endswith(end)), None)
        kind = numbers[named] if named else tensor.type
        tensors.append(Tensor(tensor.name, tensor.dimensions, kind, offset))
        offset += padded_bytes(tensors[-1:])
    return tensors


def _header(model: ModelShape, quantization: str, vocabulary: Vocabulary, tensors: Sequence[Tensor]) -> bytes:
    pairs = list(_pairs(model, quantization, vocabulary))
    pieces = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(pairs))]
    pieces += [
        text(key) + (value if isinstance(value, bytes) else metadata_value(value)) for key, value in pairs
    ]
    for tensor in tensors:
        rank = len(tensor.dimensions)
        row = struct.pack(f"<I{rank}QIQ", rank, *tensor.dimensions, tensor.type, tensor.offset)
        pieces.append(text(tensor.name) + row)
    raw = b"".join(pieces)
    return raw.ljust(-(-len(raw) // _ALIGNMENT) * _ALIGNMENT, b"\0")


def _pairs(model: ModelShape, quantization: str, vocabulary: Vocabulary) -> Iterator[Pair]:
    """Metadata in the order of a real file; arrays of the tokenizer come as bytes."""
    architecture = model.outline.architecture
    number = next(number for number, name in FILE_TYPES.items() if name == quantization)
    converted = quantization in _CONVERTED
    yield "general.architecture", architecture
    yield "general.type", "model"
    yield "general.name", model.label
    yield "general.license", "apache-2.0"
    yield "general.tags", ("chat", "text-generation")
    yield "general.languages", ("en",)
    for key, value in (*_sizes(model.outline), *_context(model), *model.further.items()):
        yield f"{architecture}.{key}", value
    if converted:
        yield "general.file_type", number
    yield from _tokenizer(model, vocabulary)
    yield "tokenizer.chat_template", _TEMPLATE
    yield "general.quantization_version", 2
    if not converted:
        yield "general.file_type", number


def _sizes(outline: Outline) -> Iterator[tuple[str, int]]:
    yield "block_count", outline.block_count
    yield "embedding_length", outline.embedding_length
    yield "feed_forward_length", outline.feed_forward_length
    yield "attention.head_count", outline.head_count
    yield "attention.head_count_kv", outline.head_count_kv
    if outline.architecture != "qwen2":
        yield "attention.key_length", outline.key_length
        yield "attention.value_length", outline.value_length
    if outline.expert_count:
        yield "expert_count", outline.expert_count
        yield "expert_feed_forward_length", outline.expert_feed_forward_length


def _context(model: ModelShape) -> Iterator[Pair]:
    yield "context_length", model.context_length
    yield "rope.freq_base", model.rope_base
    yield "attention.layer_norm_rms_epsilon", 1e-6


def _tokenizer(model: ModelShape, vocabulary: Vocabulary) -> Iterator[Pair]:
    tokenizer, count = model.tokenizer, model.outline.vocabulary_size
    yield "tokenizer.ggml.model", tokenizer.model
    yield "tokenizer.ggml.pre", tokenizer.pre
    total = tokenizer.tokens_bytes + tokenizer.padding_bytes * (count - tokenizer.count)
    tokens = _tokens(tokenizer, count, total if vocabulary == "real-size" else 0)
    kinds = [1] * count
    for at in tokenizer.special:
        kinds[at] = 3
    if tokenizer.model == "llama":
        kinds[_BYTES_AT : _BYTES_AT + 256] = [6] * 256
    yield "tokenizer.ggml.tokens", _texts(tokens)
    if tokenizer.model == "llama":
        yield "tokenizer.ggml.scores", _array(6, struct.pack(f"<{count}f", *range(0, -count, -1)), count)
    yield "tokenizer.ggml.token_type", _array(5, struct.pack(f"<{count}i", *kinds), count)
    if tokenizer.merges:
        yield "tokenizer.ggml.merges", _texts(_merges(tokenizer, vocabulary))
    yield "tokenizer.ggml.bos_token_id", tokenizer.bos
    yield "tokenizer.ggml.eos_token_id", tokenizer.eos
    yield "tokenizer.ggml.padding_token_id", tokenizer.pad
    yield "tokenizer.ggml.add_bos_token", tokenizer is not QWEN


def _tokens(tokenizer: Tokenizer, count: int, total: int) -> list[bytes]:
    """Different texts, as short as can be, or so long that the elements of the array have `total` bytes."""
    named = {at: name.encode() for at, name in tokenizer.special.items()}
    if tokenizer.model == "llama":
        named |= {_BYTES_AT + byte: b"<0x%02X>" % byte for byte in range(256)}
    else:
        named[_NEWLINE] = "Ċ".encode()
    tokens = [named.get(number) or _code(number) for number in range(count)]
    return _lengthened(tokens, total, set(named))


def _merges(tokenizer: Tokenizer, vocabulary: Vocabulary) -> list[bytes]:
    if vocabulary == "dummy":
        return [b"a b"]
    pairs = [b"a " + _code(number) for number in range(tokenizer.merges)]
    return _lengthened(pairs, tokenizer.merges_bytes, set())


def _lengthened(texts: list[bytes], total: int, kept: set[int]) -> list[bytes]:
    """The same texts with `_` behind those that may change, in all `total` bytes with their lengths.

    No text ends in `_` before, so they stay different.
    """
    missing = total - sum(8 + len(item) for item in texts)
    if missing <= 0:
        return texts
    free = [at for at in range(len(texts)) if at not in kept]
    each, rest = divmod(missing, len(free))
    for place, at in enumerate(free):
        texts[at] += b"_" * (each + (place < rest))
    return texts


def _code(number: int) -> bytes:
    """A short text for each number: its digits in base 62."""
    digits = ""
    while True:
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
        if not number:
            return digits.encode()
        number -= 1


def _texts(texts: Sequence[bytes]) -> bytes:
    return _array(8, b"".join([struct.pack("<Q", len(item)) + item for item in texts]), len(texts))


def _array(kind: int, elements: bytes, count: int) -> bytes:
    return struct.pack("<IIQ", 9, kind, count) + elements
