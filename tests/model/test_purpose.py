"""What a model is for, by its architecture and two keys of its header."""

import pytest

from qwenctl.model.purpose import ENCODERS, POOLING_NUMBERS, Use
from tests.model.memory.memory_builders import TINY, changed, shape_of


@pytest.mark.parametrize("number", [None, 0])
def test_a_model_that_says_nothing_generates(number: int | None) -> None:
    """Its last token has seen the whole text, and stands for it."""
    assert Use.read("qwen2", number) == Use("text", "last", whole=False)


@pytest.mark.parametrize("architecture", sorted(ENCODERS))
def test_an_encoder_that_says_nothing_takes_the_mean(architecture: str) -> None:
    """All tokens see each other, so a text is one piece."""
    assert Use.read(architecture, None) == Use("embedding", "mean", whole=True)


@pytest.mark.parametrize(
    ("architecture", "pooling", "expected"),
    [
        ("qwen3", "last", Use("embedding", "last", whole=False)),
        ("qwen3", "mean", Use("embedding", "mean", whole=True)),
        ("qwen3", "rank", Use("ranking", "rank", whole=False)),
        ("bert", "cls", Use("embedding", "cls", whole=True)),
        ("bert", "rank", Use("ranking", "rank", whole=True)),
    ],
)
def test_a_pooling_type_is_for_vectors(architecture: str, pooling: str, expected: Use) -> None:
    """llama.cpp's converter writes one for models of sentence-transformers alone."""
    number = next(number for name, number in POOLING_NUMBERS.items() if name == pooling)
    assert Use.read(architecture, number) == expected


def test_tokens_that_see_those_behind_them_are_computed_together() -> None:
    """Also where the last one counts, as in gte-Qwen2."""
    shape = changed(shape_of(TINY), {"qwen2.pooling_type": 3, "qwen2.attention.causal": False})
    assert Use.of(shape) == Use("embedding", "last", whole=True)
