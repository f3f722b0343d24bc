"""Model cards: what a card must say, and what it may not."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.model.card import CARD_LIMIT, Card, parse_card

GIB = 1024**3
SHAPE: dict[str, Any] = {
    "source": "https://example.org/config.json",
    "block_count": 28,
    "embedding_length": 3584,
    "feed_forward_length": 18944,
    "head_count": 28,
    "head_count_kv": 4,
    "vocabulary_size": 152064,
    "context_length": 32768,
}


def document() -> dict[str, Any]:
    """A small card."""
    return {
        "name": "qwen2.5",
        "title": "Qwen2.5",
        "description": "A family.",
        "provider": "Alibaba Cloud",
        "architecture": "qwen2",
        "license": "Apache-2.0",
        "variants": [
            {
                "tag": "7B-Q4_K_M",
                "also": ["latest"],
                "parameters": "7.61B",
                "quantization": "Q4_K_M",
                "context_length": 32768,
                "vram": "4.83 GiB",
                "size": "4.36 GiB",
            },
            {"tag": "0.5B-F16", "parameters": "494M", "context_length": 32768},
        ],
        "aliases": {"Qwen2.5-7B-Instruct": "7B-Q4_K_M"},
    }


def parse(card: object) -> Card:
    """The card in a document; JSON is YAML."""
    return parse_card(json.dumps(card).encode(), "qwen2.5.yaml")


def test_a_card_is_read() -> None:
    """Fields come back; sizes and parameters are numbers, too."""
    card = parse(document())
    assert (card.name, card.default.tag, card.tags) == (
        "qwen2.5",
        "7B-Q4_K_M",
        ("7B-Q4_K_M", "latest", "0.5B-F16"),
    )
    assert card.default.vram_bytes == int(4.83 * GIB)
    assert card.default.size_bytes == int(4.36 * GIB)
    assert [variant.parameter_count for variant in card.variants] == [7_610_000_000, 494_000_000]


def test_figures_may_be_unknown() -> None:
    """A card leaves out what it does not know."""
    small = parse(document()).variants[1]
    assert (small.quantization, small.vram_bytes, small.size_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "count"),
    [("7.61B", 7_610_000_000), ("135 M", 135_000_000), ("1.2T", 1_200_000_000_000), ("few", None)],
)
def test_parameters_are_a_number_where_they_are_one(text: str, count: int | None) -> None:
    """Parameters keep the text of the card."""
    card = document()
    card["variants"][0]["parameters"] = text
    assert parse(card).default.parameter_count == count


@pytest.mark.parametrize("tag", ["7B-Q4_K_M", "7b-q4_k_m", "LATEST"])
def test_variants_are_found_in_any_case(tag: str) -> None:
    """Tags are exact at a registry; the card knows how they are really written."""
    card = parse(document())
    assert card.variant(tag) is card.default
    assert card.variant("7B-Q8_0") is None


def test_near_tags() -> None:
    """A tag that does not exist leads to those that are like it, best first."""
    card = parse(document())
    assert card.near_tags("7b-q4_k_s") == ("7B-Q4_K_M",)
    assert card.near_tags("0.5B-Q4_K_M", 1) == ("7B-Q4_K_M",)
    assert card.near_tags("zzz") == ()


def test_aliases_are_found_in_any_case() -> None:
    """An alias leads to its tag."""
    card = parse(document())
    assert card.alias("qwen2.5-7b-instruct") == "7B-Q4_K_M"
    assert card.alias("qwen2.5") is None


def change(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The small card, edited."""
    card = document()
    edit(card)
    return card


def variant(**fields: object) -> dict[str, Any]:
    """The small card, its first variant changed."""
    return change(lambda card: card["variants"][0].update(fields))


def shaped(**fields: object) -> dict[str, Any]:
    """The small card, its first variant with a shape, and that changed."""
    card = variant(shape="7B")
    return card | {"shapes": {"7B": SHAPE | fields}}


def test_a_shape_is_an_outline() -> None:
    """Heads share the width, where nothing else is said; the architecture is the card's."""
    card = parse(shaped())
    outline = card.shapes["7B"].outline(card.architecture)
    assert (outline.architecture, outline.key_length, outline.value_length) == ("qwen2", 128, 128)
    wide = parse(shaped(architecture="qwen3", head_length=64)).shapes["7B"].outline("qwen2")
    assert (wide.architecture, wide.key_length) == ("qwen3", 64)


@pytest.mark.parametrize(
    ("card", "words"),
    [
        (change(lambda card: card.pop("license")), "`license`"),
        (change(lambda card: card.update(colour="red")), "`colour`"),
        (variant(colour="red"), r"\$\.variants\[0\]"),
        (variant(context_length="32768"), r"\$\.variants\[0\]\.context_length"),
        (variant(context_length=0), r"\$\.variants\[0\]\.context_length"),
        (variant(quantization="7B"), "variant `7B-Q4_K_M`: `7B` is not a quantization"),
        (variant(vram="much"), "variant `7B-Q4_K_M`: `much` is not a size"),
        (variant(size="4.36 GiBs"), "is not a size"),
        (variant(also=["latest", "a b"]), "`a b` is not a tag"),
        (variant(also=["latest", "0.5b-f16"]), "tag `0.5B-F16` is there twice"),
        (variant(also=[]), "no variant has the tag `latest`"),
        (change(lambda card: card.update(name="Qwen2.5")), "`Qwen2.5` is not a repository name"),
        (change(lambda card: card["aliases"].update(x="9B")), "alias `x` means `9B`"),
        (change(lambda card: card["aliases"].update({"a b": "latest"})), "nothing that one can ask for"),
        (change(lambda card: card["aliases"].update({"QWEN2.5": "latest"})), "`QWEN2.5` is there twice"),
        (
            change(lambda card: card["aliases"].update({"qwen2.5-7b-instruct": "latest"})),
            "`qwen2.5-7b-instruct` is there twice",
        ),
        (
            change(lambda card: card.update(links=[{"title": "x", "url": "javascript:x"}])),
            r"\$\.links\[0\]\.url",
        ),
        (shaped(block_count=0), r"\$\.shapes\[\.\.\.\]\.block_count"),
        (shaped(layers=28), "`layers`"),
        (shaped(source="here"), r"\.source"),
        (shaped(embedding_length=1 << 40), "shape `7B`: no model can have these numbers"),
        (shaped(block_count=300), "shape `7B`: no model can have these numbers"),
        (shaped(expert_count=8), "shape `7B`: no model can have these numbers"),
        (shaped(expert_used_count=8), "shape `7B`: no model can have these numbers"),
        (shaped(architecture="gemma3"), "shape `7B`: the memory of `gemma3` needs more than these numbers"),
        (shaped(architecture="nonsense"), "shape `7B`: the memory of `nonsense` needs more"),
        (variant(shape="8B"), "there is no shape `8B`"),
        (change(lambda card: card.update(shapes={"7B": SHAPE})), "no variant has the shape `7B`"),
        (change(lambda card: card.update(title="a\u001b[31mb")), "a character that cannot be printed"),
        (variant(parameters="7\n"), "a character that cannot be printed"),
        ([], "Expected `object`"),
        (None, "Expected `object`"),
    ],
)
def test_what_a_card_may_not_say(card: object, words: str) -> None:
    """A wrong card is refused with the file and the place."""
    with pytest.raises(Malformed, match=words) as caught:
        parse(card)
    assert caught.value.message.startswith("model card `qwen2.5.yaml`: ")


@pytest.mark.parametrize(
    ("raw", "words"), [(b"a: 1\na: 2", "second time"), (b" " * (CARD_LIMIT + 1), "more than")]
)
def test_files_that_are_no_cards(raw: bytes, words: str) -> None:
    """Neither ambiguous nor endless files are read."""
    with pytest.raises(Malformed, match=words):
        parse_card(raw, "x.yaml")


@given(
    st.dictionaries(
        st.sampled_from(["name", "variants", "aliases", "links", "license", "benchmarks", "shapes"]),
        st.none() | st.text() | st.integers() | st.lists(st.text()) | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_change_is_read_or_refused(changes: dict[str, object]) -> None:
    """No value in any field does anything but be taken or be malformed."""
    with suppress(Malformed):
        parse(document() | changes)
