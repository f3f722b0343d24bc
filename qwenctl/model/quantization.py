"""Quantizations: the types of tensors, the mixes of whole files, and their names.

Source: ggml.h (`ggml_type`), ggml-common.h (block structs), llama.h (`llama_ftype`) of the pinned
llama.cpp; the tests compare both tables with the bindings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qwenctl.errors import UsageError


@dataclass(frozen=True, slots=True)
class TensorType:
    """How a tensor stores its numbers: blocks of `block_elements` in `block_bytes` bytes."""

    name: str
    block_elements: int
    block_bytes: int

    def row_bytes(self, elements: int) -> int:
        """Bytes of `elements` numbers, which are whole blocks."""
        return elements // self.block_elements * self.block_bytes


TENSOR_TYPES: Final[Mapping[int, TensorType]] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 36),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    16: TensorType("IQ2_XXS", 256, 66),
    17: TensorType("IQ2_XS", 256, 74),
    18: TensorType("IQ3_XXS", 256, 98),
    19: TensorType("IQ1_S", 256, 50),
    20: TensorType("IQ4_NL", 32, 18),
    21: TensorType("IQ3_S", 256, 110),
    22: TensorType("IQ2_S", 256, 82),
    23: TensorType("IQ4_XS", 256, 136),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    29: TensorType("IQ1_M", 256, 56),
    30: TensorType("BF16", 1, 2),
    34: TensorType("TQ1_0", 256, 54),
    35: TensorType("TQ2_0", 256, 66),
    39: TensorType("MXFP4", 32, 17),
    40: TensorType("NVFP4", 64, 36),
    41: TensorType("Q1_0", 128, 18),
    42: TensorType("Q2_0", 64, 18),
}
"""By the number that a GGUF tensor table holds."""

FILE_TYPES: Final[Mapping[int, str]] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}
"""By the number in `general.file_type`."""

_GUESSED: Final = 1024  # LLAMA_FTYPE_GUESSED, a flag
_NAMES: Final = frozenset(FILE_TYPES.values())
_MIX: Final = re.compile(r"MXFP4|Q[2-8]_K(?:_(?:S|M|L|XL))?")
"""What llama.cpp's own names leave out: the short `Q4_K`, and the mixes of those who publish models."""
_DYNAMIC: Final = "UD-"  # Unsloth's mixes carry it in front


def file_type_name(number: int) -> str | None:
    """The quantization of a file whose `general.file_type` is `number`; None for an unknown one."""
    return FILE_TYPES.get(number & ~_GUESSED)


def parse_quantization(text: str) -> str:
    """The name as the field writes it: `MOSTLY_Q4_K_M` and `IQ2_XXS/Q4_K_M` are `Q4_K_M`.

    Older artifacts of Docker's catalogue call a plain Q4_K_M `IQ2_XXS/Q4_K_M`: the last part counts.
    Raises: UsageError for a name that is none.
    """
    name = text.strip().upper().rpartition("/")[2].removeprefix("MOSTLY_").removesuffix("GGUF").strip()
    plain = name.removeprefix(_DYNAMIC)
    if plain not in _NAMES and not _MIX.fullmatch(plain):
        raise UsageError(f"`{text[:80]}` is not a quantization", hint="such as Q4_K_M, Q8_0 or F16")
    return name


def quantization_of_tag(tag: str) -> str | None:
    """The quantization at the end of a tag such as `7B-Q4_K_M`; None when there is none."""
    match = re.search(r"(?:^|-)((?:UD-)?[A-Za-z0-9_]+)$", tag)
    if match is None:
        return None
    try:
        return parse_quantization(match[1])
    except UsageError:
        return None
