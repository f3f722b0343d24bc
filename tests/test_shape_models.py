"""Shape models: llama.cpp takes them for the real thing, and they have the real files' sizes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.model.gguf import read_header
from qwenctl.model.shape import Shape
from tests.shape_models import QUANTIZATIONS, SHAPES, write_shape_model

PUBLISHED = {
    ("qwen2.5-1.5b", "Q4_K_M"): 986_048_768,
    ("qwen2.5-7b", "Q4_K_M"): 4_683_073_952,
    ("qwen2.5-72b", "Q4_K_M"): 47_415_715_104,
    ("qwen3-0.6b", "Q8_0"): 639_446_688,
    ("qwen3-4b", "Q4_K_M"): 2_497_280_256,
    ("qwen3-8b", "Q4_K_M"): 5_027_783_488,
    ("qwen3-14b", "Q4_K_M"): 9_001_752_960,
    ("qwen3-30b-a3b", "Q4_K_M"): 18_556_686_912,
    ("llama-3.2-1b", "Q4_K_M"): 807_694_464,
    ("llama-3.2-3b", "Q4_K_M"): 2_019_377_696,
    ("llama-3.1-8b", "Q4_K_M"): 4_920_739_232,
    ("gemma-2-2b", "Q4_K_M"): 1_708_582_752,
    ("gemma-3-1b", "Q4_K_M"): 806_058_144,
    ("gemma-3-4b", "Q4_K_M"): 2_489_757_856,
    ("gemma-3-12b", "Q4_K_M"): 7_300_574_976,
}
"""Bytes of the files that the makers and others publish."""

GENERATED = {
    ("qwen2.5-0.5b", "Q4_K_M"): 397_804_832,
    ("qwen2.5-0.5b", "F16"): 994_153_760,
    ("qwen2.5-3b", "Q4_K_M"): 1_929_899_872,
    ("qwen2.5-7b", "Q4_K_M"): 4_683_070_880,
    ("qwen2.5-7b", "Q8_0"): 8_098_522_496,
    ("qwen2.5-7b", "F16"): 15_237_850_496,
    ("qwen2.5-72b", "Q4_K_M"): 47_415_712_096,
}
"""Bytes of files with the real vocabulary and a short template, written by gguf-py."""


@pytest.mark.parametrize(("shape", "quantization"), PUBLISHED)
def test_a_real_size_model_has_the_published_size(tmp_path: Path, shape: str, quantization: str) -> None:
    """What is missing is the chat template and names, some KB."""
    path = write_shape_model(tmp_path / "m.gguf", shape, quantization, vocabulary="real-size")
    missing = PUBLISHED[shape, quantization] - path.stat().st_size
    assert 0 <= missing < 6000


@pytest.mark.parametrize(("shape", "quantization"), GENERATED)
def test_a_real_size_model_has_the_generated_size(tmp_path: Path, shape: str, quantization: str) -> None:
    """To the length of a few keys."""
    path = write_shape_model(tmp_path / "m.gguf", shape, quantization, vocabulary="real-size")
    assert abs(GENERATED[shape, quantization] - path.stat().st_size) < 300


@pytest.mark.parametrize("shape", SHAPES)
def test_the_header_says_the_shape(tmp_path: Path, shape: str) -> None:
    """Our reader finds the outline, the quantization and the file's length in it."""
    path = write_shape_model(tmp_path / "m.gguf", shape, "Q4_K_M")
    with path.open("rb") as file:
        header = read_header(file)
    read, outline = Shape.of(header), SHAPES[shape].outline
    assert (read.architecture, read.quantization) == (outline.architecture, "Q4_K_M")
    assert (read.block_count, read.embedding_length) == (outline.block_count, outline.embedding_length)
    assert read.vocabulary_size == outline.vocabulary_size
    assert header.file_bytes <= path.stat().st_size < header.file_bytes + header.alignment
    assert path.stat().st_blocks * 512 < 6_500_000


def test_a_mix_of_ones_own_can_be_written(tmp_path: Path) -> None:
    """Tensors get the types that are named by the ends of their names; the rest stay."""
    retyped = {"ffn_up.weight": "Q8_0"}
    path = write_shape_model(tmp_path / "m.gguf", "qwen2.5-0.5b", "Q4_0", retyped=retyped)
    with path.open("rb") as file:
        types = {tensor.name: tensor.type for tensor in read_header(file).tensors}
    assert (types["blk.3.ffn_up.weight"], types["blk.3.ffn_gate.weight"]) == (8, 2)


def opened_by_llama(*paths: Path) -> list[dict[str, object]]:
    """What llama.cpp says about files that it opened without allocating."""
    command = [sys.executable, "-m", "tests.no_alloc_program", *map(str, paths)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in shown.stdout.splitlines()]


def check_opening(paths: list[tuple[Path, str]]) -> None:
    """llama.cpp opens each, makes a context, and counts what our reader counts."""
    rows = opened_by_llama(*(path for path, _ in paths))
    assert len(rows) == len(paths)
    for row, (path, shape) in zip(rows, paths, strict=True):
        with path.open("rb") as file:
            read = Shape.of(read_header(file))
        assert row == {
            "path": str(path),
            "parameters": read.parameters,
            "bytes": read.weights_bytes,
            "tokens": SHAPES[shape].outline.vocabulary_size,
            "layers": SHAPES[shape].outline.block_count,
            "templated": True,
            "context": True,
            "errors": [],
        }


def test_llama_opens_every_shape(tmp_path: Path) -> None:
    """Vocabulary and all, without allocating; dummy tokens are enough."""
    check_opening([(write_shape_model(tmp_path / shape, shape, "Q4_K_M"), shape) for shape in SHAPES])


@pytest.mark.slow
def test_llama_opens_every_quantization(tmp_path: Path) -> None:
    """All types, and vocabularies of real size."""
    paths = [
        (write_shape_model(tmp_path / f"{shape}-{name}", shape, name, vocabulary="real-size"), shape)
        for shape in ("qwen2.5-0.5b", "llama-3.2-1b", "gemma-3-1b")
        for name in QUANTIZATIONS
    ]
    check_opening(paths)
