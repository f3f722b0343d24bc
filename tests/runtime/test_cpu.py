"""Which tensor types the CPU repacks, by its features."""

from pathlib import Path

import pytest

from qwenctl.model.quantization import TENSOR_TYPES
from qwenctl.runtime.cpu import repacked_types


def names(facts: Path, machine: str) -> set[str]:
    """The types by name."""
    return {TENSOR_TYPES[number].name for number in repacked_types(facts, machine)}


@pytest.mark.parametrize(
    ("text", "machine", "some", "none"),
    [
        ("flags\t\t: fpu sse2 avx avx2 fma", "x86_64", {"Q4_0", "Q4_K"}, {"Q2_K", "Q8_0"}),
        ("flags\t\t: avx2 avx512f", "x86_64", {"Q4_K", "Q2_K"}, {"Q6_K"}),
        ("flags\t\t: sse2", "x86_64", set(), {"Q4_0"}),
        ("Features\t: fp asimd asimddp", "aarch64", {"Q8_0", "Q6_K"}, {"F16"}),
        ("Features\t: fp asimd", "aarch64", set(), {"Q8_0"}),
        ("nothing of the kind", "riscv64", set(), {"Q4_0"}),
    ],
)
def test_the_features_decide(tmp_path: Path, text: str, machine: str, some: set[str], none: set[str]) -> None:
    """AVX2 and dot products each bring the types that llama.cpp has kernels for."""
    facts = tmp_path / "cpuinfo"
    facts.write_text(f"processor\t: 0\n{text}\n\nprocessor\t: 1\n")
    found = names(facts, machine)
    assert some <= found
    assert not none & found


def test_apple_has_no_file_of_facts(tmp_path: Path) -> None:
    """Without one an ARM processor counts as having dot products, any other as having nothing."""
    assert "Q8_0" in names(tmp_path / "none", "arm64")
    assert names(tmp_path / "none", "x86_64") == set()
