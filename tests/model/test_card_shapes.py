"""The numbers on the cards: what they add up to is what is published."""

import re

import pytest

from qwenctl.model.card import Card, Variant
from qwenctl.model.drawn import draw
from qwenctl.model.mix import padded_bytes
from tests.model.test_catalog_cards import CARDS

DRAWN = [
    pytest.param(card, variant, id=f"{card.name}:{variant.tag}")
    for card in CARDS.values()
    for variant in card.variants
    if variant.shape
]


@pytest.mark.parametrize(("card", "variant"), DRAWN)
def test_the_tensors_have_the_published_size(card: Card, variant: Variant) -> None:
    """To the last digit that the card gives: of bytes that many are wrong by one number in the shape."""
    shape = draw(card, variant)
    assert shape is not None and variant.size is not None
    printed = re.fullmatch(r"(\d+\.\d+) (GiB|MiB)", variant.size)
    assert printed is not None
    unit = {"GiB": 1 << 30, "MiB": 1 << 20}[printed[2]]
    last_digit = 10.0 ** -len(printed[1].partition(".")[2])
    assert abs(padded_bytes(shape.tensors) / unit - float(printed[1])) <= last_digit * 0.51


@pytest.mark.parametrize(("card", "variant"), DRAWN)
def test_the_shape_is_that_of_the_variant(card: Card, variant: Variant) -> None:
    """Quantization and number of parameters, where a tag does not leave the embedding out of it."""
    shape = draw(card, variant)
    assert shape is not None and variant.parameter_count is not None
    assert shape.quantization == variant.quantization
    doubled = shape.vocabulary_size * shape.embedding_length if card.name == "qwen3" else 0  # type: ignore[operator]
    count = variant.parameter_count
    assert any(abs(shape.parameters - more - count) < 0.03 * count for more in (0, doubled))


def test_all_variants_of_the_best_known_family_are_drawn() -> None:
    """And of the others those that their makers quantized with llama.cpp's own mixes."""
    assert all(draw(CARDS["qwen2.5"], variant) for variant in CARDS["qwen2.5"].variants)
    assert len(DRAWN) == 32
