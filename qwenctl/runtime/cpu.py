"""Which weights llama.cpp's CPU backend stores in another order than the file has them.

It matters for one number: an output that is tied to the embedding is stored a second time in that order.
"""

import platform
from pathlib import Path
from typing import Final

from qwenctl.model.quantization import TENSOR_TYPES

CPU_FACTS: Final = Path("/proc/cpuinfo")

# Source: llama.cpp 0c1e5709, ggml/src/ggml-cpu/repack.cpp, `ggml_repack_get_optimal_repack_type`; there the
# features of the build decide, which is made on the machine that it runs on.
_AVX2: Final = frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"})
_AVX512: Final = frozenset({"Q2_K"})
_DOT_PRODUCT: Final = frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4", "Q1_0"})


def repacked_types(facts: Path = CPU_FACTS, machine: str | None = None) -> frozenset[int]:
    """The tensor types that this machine's CPU repacks, by their GGUF numbers.

    `machine` is `platform.machine()`. An Apple processor has no file of facts and every feature that counts.
    """
    machine = machine or platform.machine()
    features = _features(facts)
    names: frozenset[str] = frozenset()
    if machine in ("arm64", "aarch64"):
        names = _DOT_PRODUCT if features is None or "asimddp" in features else names
    elif features is not None and "avx2" in features:
        names = _AVX2 | (_AVX512 if "avx512f" in features else frozenset())
    return frozenset(number for number, kind in TENSOR_TYPES.items() if kind.name in names)


def _features(facts: Path) -> frozenset[str] | None:
    """The flags of the first processor; None where there is no such file."""
    try:
        lines = facts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    named = (line.partition(":") for line in lines)
    found = next((value for key, _, value in named if key.strip() in ("flags", "Features")), "")
    return frozenset(found.split())
