"""Skeletons: a header without what memory does not depend on, in a file as long as the model's."""

import pytest

from qwenctl.model.gguf import Array, Header, Tensor, Value, ValueType
from qwenctl.model.shape import Shape
from qwenctl.model.skeleton import Skeleton, make_skeleton
from tests.model.memory.memory_builders import TINY, changed, known_shape, retensored, shape_of


def read(skeleton: Skeleton) -> Header:
    """The header that a reader finds."""
    from io import BytesIO

    from qwenctl.model.gguf import read_header

    return read_header(BytesIO(skeleton.header))


def test_the_tensor_table_is_the_models() -> None:
    """Names, shapes and types; the offsets are those of one file without gaps."""
    shape = known_shape("qwen2.5-0.5b")
    header = read(make_skeleton(shape))
    assert [(t.name, t.dimensions, t.type) for t in header.tensors] == [
        (t.name, t.dimensions, t.type) for t in shape.tensors
    ]


def test_the_file_ends_where_the_last_tensor_does() -> None:
    """The length that llama.cpp demands before it opens a file."""
    skeleton = make_skeleton(known_shape("qwen2.5-0.5b"))
    header = read(skeleton)
    assert header.size_bytes == len(skeleton.header)
    assert 0 <= skeleton.file_bytes - header.file_bytes < 32


def test_the_numbers_of_the_architecture_are_kept() -> None:
    """Under their keys, whole numbers and fractions, in the types that llama.cpp reads."""
    shape = changed(shape_of(TINY), {"qwen2.rope.scaling.factor": 8.0, "qwen2.rope.scaling.type": "linear"})
    metadata = read(make_skeleton(shape)).metadata
    own = {key: value for key, value in shape.header.metadata.items() if key.startswith("qwen2.")}
    assert {key: metadata[key] for key in own} == pytest.approx(own) or own.items() <= metadata.items()
    assert metadata["general.architecture"] == "qwen2"


def test_the_vocabulary_is_a_number() -> None:
    """The rows of the embedding stand for the tokens; llama.cpp's tokenizer `none` asks for no texts."""
    shape = changed(shape_of(TINY), {"qwen2.vocab_size": 7, "tokenizer.ggml.model": "gpt2"})
    metadata = read(make_skeleton(shape)).metadata
    assert metadata["qwen2.vocab_size"] == 1000
    assert metadata["tokenizer.ggml.model"] == "none"
    assert "tokenizer.ggml.tokens" not in metadata


def test_long_values_and_other_keys_stay_behind() -> None:
    """Licences, templates, and arrays whose elements were not kept."""
    long: dict[str, Value | None] = {
        "general.license.text": "x" * 5000,
        "qwen2.remark": "x" * 5000,
        "qwen2.unread": Array(ValueType.STRING, 100_000, None),
        "tokenizer.chat_template": "{{ messages }}",
    }
    metadata = read(make_skeleton(changed(shape_of(TINY), long))).metadata
    assert not set(long) & set(metadata)
    assert len(make_skeleton(known_shape("qwen2.5-7b")).header) < 32_768


@pytest.mark.parametrize(
    "value",
    [
        Array(ValueType.INT32, 3, (1, -2, 3)),
        Array(ValueType.BOOL, 2, (True, False)),
        Array(ValueType.FLOAT32, 2, (0.5, 2.0)),
        Array(ValueType.STRING, 2, ("a", "ü")),
        -5,
        1 << 40,
        True,
        "linear",
        0.25,
    ],
    ids=repr,
)
def test_values_of_every_kind_survive(value: Value) -> None:
    """Read again, they are equal."""
    assert read(make_skeleton(changed(shape_of(TINY), {"qwen2.key": value}))).metadata["qwen2.key"] == value


def test_short_arrays_of_small_integers_are_widened() -> None:
    """llama.cpp reads arrays of 32-bit numbers alone."""
    shape = changed(shape_of(TINY), {"qwen2.key": Array(ValueType.UINT8, 2, (1, 200))})
    assert read(make_skeleton(shape)).metadata["qwen2.key"] == Array(ValueType.INT32, 2, (1, 200))


def test_a_model_of_several_files_becomes_one() -> None:
    """The tensors of all files, as if they were in the first."""
    whole = shape_of(TINY)
    first, second = whole.tensors[:5], whole.tensors[5:]
    split = {"split.count": 2, **whole.header.metadata}
    headers = [Header(3, split, part, 32, 0) for part in (first, second)]
    header = read(make_skeleton(Shape.of(*headers)))
    assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in whole.tensors]
    assert "split.count" not in header.metadata


def test_a_model_without_an_embedding_has_the_tokenizers_size() -> None:
    """So that llama.cpp's own complaint is about the tensor that is missing."""
    shape = retensored(shape_of(TINY), Tensor("other", (8,), 0, 0), without="token_embd.weight")
    assert read(make_skeleton(shape)).metadata["qwen2.vocab_size"] == 1000
