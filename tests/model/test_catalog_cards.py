"""The cards that ship with the tool: each is whole, and its figures agree with each other."""

import re
from pathlib import Path

import pytest

from qwenctl.model.card import Card, Variant, parse_card
from qwenctl.model.quantization import parse_quantization, quantization_of_tag

CATALOG = Path(__file__).parents[2] / "registry" / "catalog"
FAMILIES = (
    "guide",
    "qwen2.5",
    "qwen3",
    "qwen3-coder",
    "qwen3-embedding",
    "qwen3-reranker",
    "qwen3-vl",
    "qwq",
    "smollm2",
)
# Architectures as llama.cpp spells them (src/llama-arch.cpp).
ARCHITECTURES = {"llama", "qwen2", "qwen3", "qwen3moe", "qwen3vl"}


def read(family: str) -> Card:
    """The card of a family."""
    path = CATALOG / f"{family}.yaml"
    return parse_card(path.read_bytes(), path.name)


CARDS = {family: read(family) for family in FAMILIES}
VARIANTS = [
    pytest.param(variant, id=f"{card.name}:{variant.tag}")
    for card in CARDS.values()
    for variant in card.variants
]


def test_every_file_is_a_family() -> None:
    """The catalogue holds these families and nothing else."""
    assert sorted(path.name for path in CATALOG.iterdir()) == sorted(f"{family}.yaml" for family in FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_card_is_named_like_its_file(family: str) -> None:
    """`qwenctl pull qwen3` finds the card `qwen3.yaml`; its words are whole."""
    card = CARDS[family]
    assert card.name == family
    assert card.architecture in ARCHITECTURES
    assert re.fullmatch(r"[A-Z].*\.", card.description, re.DOTALL)
    assert card.intended_uses


def test_an_alias_belongs_to_one_family() -> None:
    """No alias leads to two families, or is the name of one."""
    names = [*FAMILIES, *(alias.casefold() for card in CARDS.values() for alias in card.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("variant", VARIANTS)
def test_tags_name_the_quantization(variant: Variant) -> None:
    """A tag that ends in a quantization, and the field, agree."""
    in_tag = quantization_of_tag(variant.tag)
    if in_tag is not None and variant.quantization is not None:
        assert in_tag == parse_quantization(variant.quantization)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_agree_with_parameters(variant: Variant) -> None:
    """Bits per weight fit the quantization. GB taken for GiB would be 7 % off and fall below 16.

    The upper bound leaves room for small models, whose embeddings are a large part, kept twice or finer.
    """
    assert variant.parameter_count is not None
    if variant.size_bytes is None or variant.quantization is None:
        return
    bits = variant.size_bytes * 8 / variant.parameter_count
    if variant.quantization in {"F16", "BF16"}:
        assert 15.5 < bits < 20.5
    else:
        width = int(re.findall(r"\d", variant.quantization)[0])
        assert width < bits < width + 3.2


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_agrees_with_size(variant: Variant) -> None:
    """A model needs about its size; embeddings may stay outside the GPU, cache and buffers come on top."""
    if variant.vram_bytes is None or variant.size_bytes is None:
        return
    assert 0.9 * variant.size_bytes < variant.vram_bytes < variant.size_bytes * 1.4 + 1.5 * 1024**3


def test_latest_of_qwen25_is_the_7b() -> None:
    """The figures of the published card: `latest` is 7B-Q4_K_M, and the name people know leads there."""
    card = CARDS["qwen2.5"]
    assert card.default.tag == card.alias("Qwen2.5-7B-Instruct") == "7B-Q4_K_M"
    assert len(card.benchmarks) == 14
    assert {variant.tag for variant in card.variants} == {
        "0.5B-F16",
        "1.5B-F16",
        "3B-Q4_K_M",
        "3B-F16",
        "7B-Q4_0",
        "7B-Q4_K_M",
        "7B-F16",
    }


def test_the_guide_is_built_in() -> None:
    """One family needs no network."""
    assert [card.name for card in CARDS.values() if card.built_in] == ["guide"]
    assert {variant.tag for variant in CARDS["guide"].variants} == {"F16", "Q8_0", "Q4_K_M"}
