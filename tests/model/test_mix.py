"""Predicted tensor tables: llama.cpp's quantizer decides the same, and published files have their sizes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qwenctl.model.gguf import Array, Tensor, Value, ValueType
from qwenctl.model.mix import MATRIX_MATTERS, PREDICTED, padded_bytes, predict_tensors
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import FILE_TYPES, TENSOR_TYPES
from tests.shape_models import QUANTIZATIONS, SHAPES, outline_metadata, write_shape_model

Q4_K_M, Q8_0, F16 = 15, 7, 1
QWEN = SHAPES["qwen2.5-7b"].outline


def predicted(shape: str, file_type: int) -> tuple[Tensor, ...]:
    """The table of a shape; it must be known."""
    tensors = predict_tensors(SHAPES[shape].outline, file_type)
    assert tensors is not None
    return tensors


def quantizer_says(
    directory: Path, shapes: list[str], *, matrix: bool
) -> dict[tuple[str, int], dict[str, str]]:
    """What llama.cpp's quantizer would make of models: the types by tensor, in its order."""
    models = [write_shape_model(directory / f"{shape}.gguf", shape, "F16") for shape in shapes]
    file_types = ",".join(str(number) for number in sorted(PREDICTED))
    command = [sys.executable, "-m", "tests.model.quantizer_program", str(int(matrix)), file_types]
    shown = subprocess.run([*command, *map(str, models)], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    return {(Path(row["model"]).stem, row["file_type"]): row["types"] for row in rows}


def check_against_the_quantizer(directory: Path, shapes: list[str], *, matrix: bool) -> None:
    """Every tensor of every shape and file type has the type that the quantizer gives it."""
    said = quantizer_says(directory, shapes, matrix=matrix)
    assert len(said) == len(shapes) * len(QUANTIZATIONS)
    for (shape, file_type), types in said.items():
        tensors = predict_tensors(SHAPES[shape].outline, file_type, importance=matrix) or ()
        ours = [(tensor.name, TENSOR_TYPES[tensor.type].name) for tensor in tensors]
        assert ours == list(types.items()), (shape, FILE_TYPES[file_type])


class TestQuantizer:
    """The rules are those of the llama.cpp that we run."""

    def test_it_decides_the_same(self, tmp_path: Path) -> None:
        """All types, for rows that are no whole blocks, for a model of the 70B class, and for experts."""
        check_against_the_quantizer(tmp_path, ["qwen2.5-0.5b", "qwen2.5-72b", "qwen3-30b-a3b"], matrix=False)

    @pytest.mark.slow
    @pytest.mark.parametrize("matrix", [False, True], ids=["plain", "importance"])
    def test_it_decides_the_same_for_every_shape(self, tmp_path: Path, *, matrix: bool) -> None:
        """All shapes and types, with and without an importance matrix."""
        check_against_the_quantizer(tmp_path, list(SHAPES), matrix=matrix)

    def test_a_matrix_matters_for_some(self) -> None:
        """The file types whose mix depends on an importance matrix are known."""
        changed = {
            number
            for number in PREDICTED
            if predict_tensors(QWEN, number) != predict_tensors(QWEN, number, importance=True)
        }
        assert changed == MATRIX_MATTERS


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ("qwen2.5-0.5b", 290),
        ("qwen2.5-7b", 339),
        ("qwen2.5-72b", 963),
        ("qwen3-8b", 399),
        ("qwen3-30b-a3b", 579),
        ("llama-3.2-1b", 147),
        ("llama-3.1-8b", 292),
        ("gemma-2-2b", 288),
        ("gemma-3-1b", 340),
        ("gemma-3-4b", 444),
    ],
)
def test_a_model_has_as_many_tensors_as_the_published_file(shape: str, count: int) -> None:
    """The number that llama.cpp shows when it loads the real file."""
    assert SHAPES[shape].outline.tensor_count == len(predicted(shape, F16)) == count


def test_the_parts_of_a_7b_are_those_of_real_logs() -> None:
    """On a GPU 4168.09 MiB, and the token embedding's 292.36 MiB on the host, as CUDA builds report."""
    sizes = {tensor.name: tensor.size_bytes for tensor in predicted("qwen2.5-7b", Q4_K_M)}
    host = sizes.pop("token_embd.weight")
    assert round(host / 2**20, 2) == 292.36
    assert round(sum(sizes.values()) / 2**20, 2) == 4168.09


def test_tables_are_laid_out_as_in_a_file() -> None:
    """Each tensor begins where the one before ends, padded; the last end is the size of the section."""
    tensors, end = predicted("qwen2.5-0.5b", Q4_K_M), 0
    for tensor in tensors:
        assert tensor.offset == end
        end += padded_bytes([tensor])
    assert padded_bytes(tensors) == end


def test_what_is_not_known_is_not_guessed() -> None:
    """Types that need an importance matrix, and numbers that mean nothing, have no table."""
    for number in (19, 24, 39, 9999, -1):
        assert predict_tensors(QWEN, number) is None


def test_eight_experts_are_spared() -> None:
    """The quantizer keeps the attention of a model with eight experts finer, as for Mixtral."""
    outline = replace(SHAPES["qwen3-30b-a3b"].outline, expert_count=8)
    types = {t.name: TENSOR_TYPES[t.type].name for t in predict_tensors(outline, Q4_K_M) or ()}
    assert [types[f"blk.20.attn_{part}.weight"] for part in "qkv"] == ["Q4_K", "Q8_0", "Q8_0"]
    assert types["blk.20.attn_output.weight"] == "Q5_K"


@pytest.mark.parametrize("shape", SHAPES)
def test_an_outline_is_read_from_metadata(shape: str) -> None:
    """The scalars and the number of tensors give the outline back, whether its output is tied included."""
    outline = SHAPES[shape].outline
    read = Outline.of(outline_metadata(outline))
    assert read is not None
    assert outline in read.variants(outline.tensor_count)
    assert read.variants(outline.tensor_count + 7) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", "mamba"),
        ("general.architecture", 7),
        ("qwen2.block_count", 0),
        ("qwen2.block_count", 1 << 31),
        ("qwen2.block_count", True),
        ("qwen2.block_count", "28"),
        ("qwen2.embedding_length", 1 << 40),
        ("qwen2.attention.head_count", 0),
        ("qwen2.attention.head_count_kv", Array(ValueType.UINT32, 2, (4, 4))),
        ("qwen2.expert_count", 60),
        ("tokenizer.ggml.tokens", "none"),
    ],
)
def test_an_impossible_outline_is_none(key: str, value: Value) -> None:
    """Another architecture, and numbers that are no numbers of a model, give no outline."""
    assert Outline.of(outline_metadata(QWEN)) is not None
    assert Outline.of({**outline_metadata(QWEN), key: value}) is None
