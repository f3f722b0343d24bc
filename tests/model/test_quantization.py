"""Quantizations: the tables are llama.cpp's own, names are read as people and registries write them."""

import ctypes
from pathlib import Path

import llama_cpp
import pytest

from qwenctl.errors import UsageError
from qwenctl.model.quantization import (
    FILE_TYPES,
    TENSOR_TYPES,
    TensorType,
    file_type_name,
    parse_quantization,
    quantization_of_tag,
)


def ggml() -> ctypes.CDLL:
    """The ggml that the pinned bindings load."""
    directory = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(directory.glob("libggml-base.*"))))
    library.ggml_type_name.restype = ctypes.c_char_p
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    return library


class TestTablesOfLlamaCpp:
    """The numbers come from the llama.cpp that we run, and a new one must not drift away unnoticed."""

    def test_tensor_types_are_those_of_ggml(self) -> None:
        """Each type that ggml knows is in the table, with its name, block and bytes; no other is."""
        library = ggml()
        known = {
            number: TensorType(
                library.ggml_type_name(number).decode().upper(),
                library.ggml_blck_size(number),
                library.ggml_type_size(number),
            )
            for number in range(llama_cpp.GGML_TYPE_COUNT)
            if library.ggml_blck_size(number)
        }
        assert known == TENSOR_TYPES

    def test_file_types_are_those_of_llama(self) -> None:
        """Each file type of llama.h is in the table under its name; no other is."""
        names = [name for name in dir(llama_cpp) if name.startswith("LLAMA_FTYPE_")]
        known = {
            getattr(llama_cpp, name): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_")
            for name in names
            if name != "LLAMA_FTYPE_GUESSED"
        }
        known[llama_cpp.LLAMA_FTYPE_ALL_F32] = "F32"
        assert known == FILE_TYPES

    def test_a_guessed_file_type_has_a_flag(self) -> None:
        """llama.cpp marks a type that it guessed from the tensors."""
        assert file_type_name(15) == file_type_name(llama_cpp.LLAMA_FTYPE_GUESSED | 15) == "Q4_K_M"
        assert file_type_name(5) is None


def test_rows_are_whole_blocks() -> None:
    """Bytes of a row: blocks times bytes of a block."""
    assert TensorType("Q4_K", 256, 144).row_bytes(768) == 432


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Q4_K_M", "Q4_K_M"),
        (" q4_k_m ", "Q4_K_M"),
        ("MOSTLY_Q4_K_M", "Q4_K_M"),
        ("IQ2_XXS/Q4_K_M", "Q4_K_M"),
        ("IQ2_XXS/Q4_K_MGGUF", "Q4_K_M"),
        ("IQ2_XXS", "IQ2_XXS"),
        ("UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("ud-iq2_m", "UD-IQ2_M"),
        ("Q8_K_XL", "Q8_K_XL"),
        ("Q3_K_L", "Q3_K_L"),
        ("Q6_K", "Q6_K"),
        ("F16", "F16"),
        ("bf16", "BF16"),
        ("MXFP4", "MXFP4"),
        ("MXFP4_MOE", "MXFP4_MOE"),
    ],
)
def test_names_are_read(text: str, name: str) -> None:
    """The field's spellings, and those of older artifacts, mean one name."""
    assert parse_quantization(text) == name


@pytest.mark.parametrize("name", sorted(set(FILE_TYPES.values())))
def test_every_file_type_is_a_name(name: str) -> None:
    """What a file says of itself can be written on a card; reading it twice changes nothing."""
    assert parse_quantization(name) == name


@pytest.mark.parametrize(
    "text", ["", "7B", "latest", "Q4", "Q9_K_M", "INT4", "Q4_K_M/", "UD-", "I32", "x" * 999]
)
def test_other_words_are_none(text: str) -> None:
    """A word that is no quantization is refused, briefly."""
    with pytest.raises(UsageError, match="is not a quantization") as caught:
        parse_quantization(text)
    assert len(caught.value.message) < 120


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("7B-Q4_K_M", "Q4_K_M"),
        ("7b-q4_k_m", "Q4_K_M"),
        ("30B-A3B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("F16", "F16"),
        ("latest", None),
        ("8B", None),
        ("7B-", None),
        ("", None),
    ],
)
def test_tags_end_in_a_quantization(tag: str, name: str | None) -> None:
    """Docker's catalogue writes it behind the size."""
    assert quantization_of_tag(tag) == name
