"""Model cards: what a family of models is, which variants it has and what they need, for people.

A card is a YAML file, `registry/catalog/<family>.yaml`. Its figures are its maker's; ours stand beside
them elsewhere. The sizes that Docker's cards print as GB are GiB, and are written as GiB here.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from qwenctl.errors import Malformed, UsageError
from qwenctl.model.quantization import parse_quantization
from qwenctl.model.strict_yaml import parse_yaml
from qwenctl.oci.reference import DEFAULT_TAG, is_repository, is_tag
from qwenctl.units import parse_bytes

CARD_LIMIT: Final = 1024 * 1024
"""Bytes of a card file that are read."""

_PARAMETERS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([KMBT])")
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_NEAR: Final = 0.4  # of 1: tags are short, and a wrong size or quantization is still a near miss


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One published artifact of the family. `vram` and `size` are texts such as `4.36 GiB`."""

    tag: str
    parameters: str
    context_length: Annotated[int, msgspec.Meta(gt=0)]
    quantization: str | None = None
    vram: str | None = None
    size: str | None = None
    also: tuple[str, ...] = ()
    """Further tags of the same content."""

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of this content."""
        return (self.tag, *self.also)

    @property
    def parameter_count(self) -> int | None:
        """`parameters` as a number, with the digits that it has; None when it is another text."""
        match = _PARAMETERS.fullmatch(self.parameters)
        return round(float(match[1]) * _UNITS[match[2]]) if match else None

    @property
    def vram_bytes(self) -> int | None:
        """The card's VRAM figure in bytes."""
        return parse_bytes(self.vram) if self.vram else None

    @property
    def size_bytes(self) -> int | None:
        """The card's size in bytes."""
        return parse_bytes(self.size) if self.size else None


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A heading and what it stands for."""

    title: str
    text: str


class Benchmark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One result that the maker published."""

    category: str
    name: str
    score: float


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Further reading."""

    title: str
    url: Annotated[str, msgspec.Meta(pattern="^https?://")]


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model card, whole."""

    name: str
    title: str
    description: str
    provider: str
    architecture: str
    license: str
    variants: tuple[Variant, ...]
    cutoff: str | None = None
    languages: tuple[str, ...] = ()
    tool_calling: bool = False
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)
    built_in: bool = False
    aliases: dict[str, str] = {}
    """Other names of single variants, each with the tag that it means."""
    intended_uses: tuple[Item, ...] = ()
    considerations: tuple[str, ...] = ()
    benchmarks: tuple[Benchmark, ...] = ()
    benchmark_subject: str | None = None
    links: tuple[Link, ...] = ()
    note: str | None = None

    @property
    def default(self) -> Variant:
        """The variant that `latest` means."""
        return next(variant for variant in self.variants if DEFAULT_TAG in variant.tags)

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag of every variant, in the order of the card."""
        return tuple(tag for variant in self.variants for tag in variant.tags)

    def variant(self, tag: str) -> Variant | None:
        """The variant with this tag, in any case; None when the card has none."""
        wanted = tag.casefold()
        return next((v for v in self.variants if wanted in (known.casefold() for known in v.tags)), None)

    def near_tags(self, tag: str, count: int = 3) -> tuple[str, ...]:
        """The tags most like `tag`, best first."""
        by_fold = {known.casefold(): known for known in self.tags}
        near = difflib.get_close_matches(tag.casefold(), by_fold, n=count, cutoff=_NEAR)
        return tuple(by_fold[fold] for fold in near)

    def alias(self, name: str) -> str | None:
        """The tag that `name` means, in any case; None when it is no alias of this card."""
        wanted = name.casefold()
        return next((tag for alias, tag in self.aliases.items() if alias.casefold() == wanted), None)


def parse_card(raw: bytes, where: str) -> Card:
    """The card in a YAML file. Raises: Malformed, naming `where` and the place in the document."""
    if len(raw) > CARD_LIMIT:
        raise Malformed(f"model card `{where}` has more than {CARD_LIMIT} bytes")
    try:
        card = msgspec.convert(parse_yaml(raw), Card)
    except Malformed as error:
        raise Malformed(f"model card `{where}`: {error.message}") from error
    except msgspec.ValidationError as error:
        raise Malformed(f"model card `{where}`: {error}") from error
    for problem in _problems(card):
        raise Malformed(f"model card `{where}`: {problem}")
    return card


def _problems(card: Card) -> Iterable[str]:
    if not is_repository(card.name):
        yield f"`{card.name}` is not a repository name"
    for tag in _repeated(card.tags):
        yield f"tag `{tag}` is there twice"
    if DEFAULT_TAG not in card.tags:
        yield f"no variant has the tag `{DEFAULT_TAG}`"
    for alias in _repeated((card.name, *card.aliases)):
        yield f"alias `{alias}` is there twice, or is the name of the card"
    for alias, tag in card.aliases.items():
        if not is_repository(alias.lower()):
            yield f"alias `{alias}` is nothing that one can ask for"
        if tag not in card.tags:
            yield f"alias `{alias}` means `{tag}`, which no variant has"
    for variant in card.variants:
        yield from _variant_problems(variant)


def _variant_problems(variant: Variant) -> Iterable[str]:
    for tag in variant.tags:
        if not is_tag(tag):
            yield f"`{tag}` is not a tag"
    try:
        if variant.quantization is not None:
            parse_quantization(variant.quantization)
        parse_bytes(variant.vram or "0")
        parse_bytes(variant.size or "0")
    except UsageError as error:
        yield f"variant `{variant.tag}`: {error.message}"


def _repeated(names: Iterable[str]) -> Iterable[str]:
    """The names that differ from an earlier one in case at the most."""
    seen: set[str] = set()
    for name in names:
        if (folded := name.casefold()) in seen:
            yield name
        seen.add(folded)
