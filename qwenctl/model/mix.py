"""Which types llama.cpp's quantizer gives to the tensors of a model: the mix behind `Q4_K_M` and the like.

A file of one quantization holds several types of tensors: the output and some layers are kept finer. With
the quantizer's rules the size of every tensor, and so the place where a file's tensors begin, is known
before the table of tensors is read. A file that was made otherwise disproves the prediction by its size.

Source: llama.cpp 0c1e5709, src/llama-quant.cpp: `llama_ftype_get_default_type`,
`tensor_allows_quantization`, `llama_tensor_get_type_impl`, `tensor_type_fallback`, without an option of
llama-quantize, and for the architectures of `outline` alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from qwenctl.model.gguf import Tensor, padded
from qwenctl.model.outline import Outline, Slot
from qwenctl.model.quantization import FILE_TYPES, TENSOR_TYPES

ALIGNMENT: Final = 32
"""Bytes to which llama.cpp pads every tensor. Source: ggml, gguf.h (`GGUF_DEFAULT_ALIGNMENT`)."""

_NUMBERS: Final = {kind.name: number for number, kind in TENSOR_TYPES.items()}
F32, F16, BF16 = (_NUMBERS[name] for name in ("F32", "F16", "BF16"))
Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 = (_NUMBERS[name] for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"))
Q2_K, Q3_K, Q4_K, Q5_K, Q6_K = (_NUMBERS[name] for name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"))
IQ3_S, IQ4_NL, IQ4_XS = (_NUMBERS[name] for name in ("IQ3_S", "IQ4_NL", "IQ4_XS"))

_DEFAULTS: Final[Mapping[str, int]] = {
    "F32": F32,
    "F16": F16,
    "BF16": BF16,
    "Q8_0": Q8_0,
    "Q4_0": Q4_0,
    "Q4_1": Q4_1,
    "Q5_0": Q5_0,
    "Q5_1": Q5_1,
    "Q2_K": Q2_K,
    "Q3_K_S": Q3_K,
    "Q3_K_M": Q3_K,
    "Q3_K_L": Q3_K,
    "Q4_K_S": Q4_K,
    "Q4_K_M": Q4_K,
    "Q5_K_S": Q5_K,
    "Q5_K_M": Q5_K,
    "Q6_K": Q6_K,
    "IQ3_S": IQ3_S,
    "IQ3_M": IQ3_S,
    "IQ4_NL": IQ4_NL,
    "IQ4_XS": IQ4_XS,
}
"""The type of most tensors, by the file type's name; the others need an importance matrix, or are rare."""

PREDICTED: Final = frozenset(number for number, name in FILE_TYPES.items() if name in _DEFAULTS)
"""The values of `general.file_type` that are predicted here."""

MATRIX_MATTERS: Final = frozenset(
    number for number, name in FILE_TYPES.items() if name in ("Q4_0", "Q5_0", "IQ4_NL", "IQ4_XS")
)
"""The file types that are another mix when an importance matrix was used."""

_FALLBACKS: Final[Mapping[int, int]] = {
    IQ3_S: IQ4_NL,
    IQ4_XS: IQ4_NL,
    Q2_K: Q4_0,
    Q3_K: Q4_0,
    Q4_K: Q5_0,
    Q5_K: Q5_1,
    Q6_K: Q8_0,
}
"""What takes the place of a type whose blocks are longer than a row allows."""

_MIXTRAL_EXPERTS: Final = 8  # the quantizer spares the attention of models with just this many experts
_LARGE_LAYERS: Final = 80  # layers of the 70B class, whose few key-value heads are spared
_UNCHANGED: Final = ("_norm.weight", "ffn_gate_inp.weight")


@dataclass(frozen=True, slots=True)
class Mix:
    """One way to quantize one model. `importance` says whether an importance matrix was at hand."""

    outline: Outline
    name: str
    importance: bool = False

    def type_of(self, slot: Slot) -> int:
        """The type of a tensor."""
        name, dimensions = slot
        default = _DEFAULTS[self.name]
        if len(dimensions) < 2 or not name.endswith("weight") or name.endswith(_UNCHANGED):
            return F32
        if default in (F32, F16, BF16):
            return default
        return _fallback(self._chosen(name, dimensions[0], default), dimensions[0])

    def _chosen(self, name: str, row: int, default: int) -> int:
        if name == "output.weight" or (self.outline.tied and name == "token_embd.weight"):
            return self._output(row, default)
        if "attn_v.weight" in name:
            return self._value(_layer(name), default)
        if "attn_k.weight" in name and self._like_mixtral:
            return Q8_0
        if "ffn_down" in name:
            return self._down(_layer(name), default)
        return self._attention_output(default) if "attn_output.weight" in name else default

    def _output(self, row: int, default: int) -> int:
        whole = row % TENSOR_TYPES[default].block_elements == 0
        return Q6_K if whole and default != Q8_0 else Q8_0

    def _value(self, layer: int, default: int) -> int:
        chosen = self._value_by_name(layer, default)
        if self._of_70b and chosen in (Q3_K, Q4_K):
            chosen = Q5_K
        return Q8_0 if self._like_mixtral else chosen

    def _value_by_name(self, layer: int, default: int) -> int:
        grouped = self.outline.head_count // self.outline.head_count_kv >= 4
        match self.name:
            case "Q2_K":
                return Q4_K if grouped else Q3_K
            case "IQ3_S" if grouped:
                return Q4_K
            case "IQ3_M":
                return Q4_K
            case "Q3_K_M":
                return Q5_K if layer < 2 else Q4_K
            case "Q3_K_L":
                return Q5_K
            case "IQ4_NL" | "IQ4_XS" if grouped:
                return Q5_K
            case "Q4_K_M" | "Q5_K_M" if self._more_bits(layer):
                return Q6_K
            case "Q4_K_S" if layer < 4:
                return Q5_K
        return default

    def _down(self, layer: int, default: int) -> int:
        early = layer < self.outline.block_count // 8
        match self.name:
            case "Q2_K":
                return Q3_K
            case "Q3_K_M":
                return Q5_K if layer < self.outline.block_count // 16 else Q4_K
            case "IQ3_M" if early or (self._like_mixtral and self._more_bits(layer)):
                return Q4_K
            case "Q3_K_L":
                return Q5_K
            case "Q4_K_M" | "Q5_K_M" if self._more_bits(layer):
                return Q6_K
            case "IQ4_NL" | "IQ4_XS" if early and not self.importance:
                return Q5_K
            case "Q4_K_S" if early:
                return Q5_K
            case "Q4_0" | "Q5_0" if early and self.importance:
                return Q4_1 if self.name == "Q4_0" else Q5_1
        return default

    def _attention_output(self, default: int) -> int:
        if self._like_mixtral:
            spared = default in (Q2_K, IQ3_S, IQ4_NL, IQ4_XS, Q4_K) or self.name in ("Q3_K_S", "Q3_K_M")
            return Q5_K if spared else default
        return {"Q2_K": Q3_K, "Q3_K_M": Q4_K, "Q3_K_L": Q5_K, "IQ3_M": Q4_K}.get(self.name, default)

    def _more_bits(self, layer: int) -> bool:
        count = self.outline.block_count
        eighth = count // 8
        return layer < eighth or layer >= 7 * count // 8 or (layer - eighth) % 3 == 2

    @property
    def _like_mixtral(self) -> bool:
        return self.outline.expert_count == _MIXTRAL_EXPERTS

    @property
    def _of_70b(self) -> bool:
        outline = self.outline
        grouped = outline.head_count != outline.head_count_kv
        return outline.block_count == _LARGE_LAYERS and (
            outline.architecture == "qwen2" or (outline.architecture == "llama" and grouped)
        )


def predict_tensors(
    outline: Outline, file_type: int, *, importance: bool = False
) -> tuple[Tensor, ...] | None:
    """The tensor table of `outline` quantized to `file_type` (`general.file_type`); None if not known here.

    `importance` says that an importance matrix was used, which changes some mixes. The order is that of
    llama.cpp's quantizer; a converter's file holds the same tensors in another one.
    """
    if file_type not in PREDICTED:
        return None
    return _laid_out(outline.slots(), Mix(outline, FILE_TYPES[file_type], importance))


def padded_bytes(tensors: Iterable[Tensor], alignment: int = ALIGNMENT) -> int:
    """Bytes of the section that holds these tensors, each padded, the last one too."""
    return sum(padded(tensor.size_bytes, alignment) for tensor in tensors)


def _laid_out(slots: Iterable[Slot], mix: Mix) -> tuple[Tensor, ...]:
    tensors, offset = [], 0
    for slot in slots:
        tensor = Tensor(*slot, mix.type_of(slot), offset)
        tensors.append(tensor)
        offset += padded_bytes((tensor,))
    return tuple(tensors)


def _fallback(kind: int, row: int) -> int:
    """`kind`, or what the quantizer takes when a row is no whole number of its blocks."""
    for candidate in (kind, _FALLBACKS.get(kind, kind)):
        if row % TENSOR_TYPES[candidate].block_elements == 0:
            return candidate
    return F16


def _layer(name: str) -> int:
    """The number in `blk.7.ffn_down.weight`."""
    return int(name.split(".")[1])
