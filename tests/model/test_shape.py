"""What the header of a model says, whatever its architecture."""

from io import BytesIO

import pytest

from qwenctl.errors import Malformed
from qwenctl.model.gguf import Header, read_header
from qwenctl.model.shape import Shape
from tests.model.gguf_builders import (
    F16,
    F32,
    Q8_0,
    TINY_METADATA,
    TINY_TENSORS,
    Many,
    Metadata,
    Typed,
    Value,
    Weights,
    gguf_header,
)


def header(metadata: Metadata = TINY_METADATA, tensors: tuple[Weights, ...] = TINY_TENSORS) -> Header:
    """The header of a file with these contents."""
    return read_header(BytesIO(gguf_header(metadata, tensors)))


def shape(**changes: Value) -> Shape:
    """The tiny model with other metadata; `__` in a name stands for a dot."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return Shape.of(header({**TINY_METADATA, **changed}))


def test_a_model_says_what_it_is() -> None:
    """Each property is the value of its key."""
    tiny = shape(general__size_label="27")
    assert tiny.architecture == "qwen2"
    assert (tiny.name, tiny.size_label, tiny.license) == ("tiny", "27", "apache-2.0")
    assert (tiny.context_length, tiny.block_count, tiny.embedding_length) == (128, 1, 8)
    assert (tiny.head_count, tiny.head_count_kv) == ((2,), (1,))
    assert (tiny.vocabulary_size, tiny.chat_template) == (3, "{{ messages }}")
    assert (tiny.parameters, tiny.weights_bytes, tiny.quantization) == (32, 80, "F16")


def test_a_model_may_say_little() -> None:
    """Only the architecture is needed; the rest is None, or none."""
    bare = Shape.of(header({"general.architecture": "other"}, ()))
    assert (bare.name, bare.size_label, bare.license, bare.chat_template) == (None, None, None, None)
    assert (bare.context_length, bare.block_count, bare.vocabulary_size) == (None, None, None)
    assert (bare.head_count, bare.head_count_kv, bare.quantization) == ((), (), None)
    assert (bare.parameters, bare.split_count) == (0, 1)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3moe", "qwen3vl"])
def test_keys_carry_the_name_of_the_architecture(architecture: str) -> None:
    """The context length is `<architecture>.context_length`, never another's."""
    metadata: Metadata = {
        "general.architecture": architecture,
        f"{architecture}.context_length": 4096,
        "another.context_length": 1,
    }
    assert Shape.of(header(metadata, ())).context_length == 4096


@pytest.mark.parametrize("value", ["", 3, ("qwen2",)])
def test_no_architecture_no_model(value: Value) -> None:
    """A header without `general.architecture` is refused."""
    with pytest.raises(Malformed, match=r"general\.architecture"):
        Shape.of(header({"general.architecture": value}, ()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(4096, 4096), (0, None), (Typed(5, -1), None), (Typed(10, 2**63), None), ("4096", None), (True, None)],
)
def test_an_impossible_context_length_is_none(value: Value, expected: int | None) -> None:
    """A context length is positive and fits the config's int32."""
    assert shape(qwen2__context_length=value).context_length == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8, (8,)),
        (Many(5, (8, 4, 0)), (8, 4, 0)),
        (Many(6, (8.0,)), ()),
        (Many(4, (8,) * 2000), ()),
        ("8", ()),
        (True, ()),
    ],
)
def test_head_counts_are_one_or_one_for_each_layer(value: Value, expected: tuple[int, ...]) -> None:
    """Some architectures give the heads for each layer."""
    assert shape(qwen2__attention__head_count=value).head_count == expected


def test_without_grouped_attention_the_heads_are_the_same() -> None:
    """A file without `head_count_kv` has as many heads in its KV cache as it has."""
    plain = {key: value for key, value in TINY_METADATA.items() if not key.endswith("head_count_kv")}
    assert Shape.of(header(plain)).head_count_kv == (2,)


@pytest.mark.parametrize(
    ("file_type", "expected"),
    [(15, "Q4_K_M"), (1024 + 7, "Q8_0"), (9999, "Q8_0"), (True, "Q8_0"), ("Q4_K_M", "Q8_0")],
)
def test_quantization_is_the_files_word_else_the_commonest_type(file_type: Value, expected: str) -> None:
    """`general.file_type` is believed where it is known; else most of the weights decide."""
    metadata = {**TINY_METADATA, "general.file_type": file_type}
    tensors = (Weights("a", (8,), F32), Weights("b", (64,), Q8_0), Weights("c", (8,), F16))
    assert Shape.of(header(metadata, tensors)).quantization == expected


class TestSplit:
    """Models in several files: the first has the metadata, each has its own tensors."""

    def test_tensors_of_all_files_count(self) -> None:
        """Parameters and bytes are those of all files together."""
        first = header({**TINY_METADATA, "split.count": 2}, (Weights("a", (8,), F32),))
        second = header({"split.no": 1}, (Weights("b", (64,), Q8_0),))
        whole = Shape.of(first, second)
        assert (whole.split_count, whole.parameters, whole.weights_bytes) == (2, 72, 32 + 68)

    def test_missing_files_are_noticed(self) -> None:
        """As many headers as files, no fewer."""
        first = header({**TINY_METADATA, "split.count": 3})
        with pytest.raises(Malformed, match="has 3 files, not 2"):
            Shape.of(first, header({}, ()))


class TestSummary:
    """Metadata as text, for the model config."""

    def test_short_scalars_in_order(self) -> None:
        """Numbers, truth values and short texts are in; arrays and long texts are not."""
        metadata: Metadata = {
            "general.architecture": "qwen2",
            "a.int": Typed(11, -5),
            "a.float": 1e-6,
            "a.bool": True,
            "a.array": ("x",),
            "a.long": "x" * 201,
        }
        assert list(Shape.of(header(metadata, ())).summary.items()) == [
            ("general.architecture", "qwen2"),
            ("a.int", "-5"),
            ("a.float", "1e-06"),
            ("a.bool", "true"),
        ]

    def test_it_has_an_end(self) -> None:
        """A config stays small even if the header has thousands of keys."""
        many = {"general.architecture": "qwen2"} | {f"key{number}": "x" for number in range(2000)}
        assert len(Shape.of(header(many, ())).summary) == 256
