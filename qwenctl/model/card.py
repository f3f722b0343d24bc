"""Model cards: what a family of models is, which variants it has and what they need, for people.

A card is a YAML file, `registry/catalog/<family>.yaml`. Its figures are its maker's; ours are computed from
its shapes (see `drawn`). The sizes that Docker's cards print as GB are GiB, and are written as GiB here.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from qwenctl.errors import Malformed, UsageError
from qwenctl.model.outline import Outline
from qwenctl.model.quantization import parse_quantization
from qwenctl.model.strict_yaml import parse_yaml
from qwenctl.oci.reference import DEFAULT_TAG, is_repository, is_tag
from qwenctl.units import parse_bytes

CARD_LIMIT: Final = 1024 * 1024
"""Bytes of a card file that are read."""

_PARAMETERS: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([KMBT])")
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_DRAWN: Final = ("llama", "qwen2", "qwen3", "qwen3moe")  # no windows, no caps: these numbers are all there is
_NEAR: Final = 0.4  # of 1: tags are short, and a wrong size or quantization is still a near miss


Count = Annotated[int, msgspec.Meta(gt=0)]
Url = Annotated[str, msgspec.Meta(pattern="^https?://")]


class CardShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The numbers of one model, named as GGUF's keys; `source` is where its maker says them.

    What is left out follows from the rest: the card's architecture, heads that share the width. `tied` means
    that the published files have no `output.weight`. `context_length` is the one in the files.
    """

    source: Url
    block_count: Count
    embedding_length: Count
    feed_forward_length: Count
    head_count: Count
    head_count_kv: Count
    vocabulary_size: Count
    context_length: Count
    architecture: str | None = None
    head_length: Count | None = None
    tied: bool = False
    expert_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    expert_used_count: Annotated[int, msgspec.Meta(ge=0)] = 0
    expert_feed_forward_length: Annotated[int, msgspec.Meta(ge=0)] = 0
    pooling_type: Annotated[int, msgspec.Meta(ge=0, le=4)] | None = None

    def outline(self, architecture: str) -> Outline:
        """The same as an outline; `architecture` is the card's."""
        head = self.head_length or self.embedding_length // self.head_count
        return Outline(
            architecture=self.architecture or architecture,
            block_count=self.block_count,
            embedding_length=self.embedding_length,
            feed_forward_length=self.feed_forward_length,
            head_count=self.head_count,
            head_count_kv=self.head_count_kv,
            key_length=head,
            value_length=head,
            vocabulary_size=self.vocabulary_size,
            tied=self.tied,
            expert_count=self.expert_count,
            expert_feed_forward_length=self.expert_feed_forward_length,
        )


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One published artifact of the family. `vram` and `size` are texts such as `4.36 GiB`.

    `shape` is the name of one of the card's shapes.
    """

    tag: str
    parameters: str
    context_length: Count
    quantization: str | None = None
    vram: str | None = None
    size: str | None = None
    also: tuple[str, ...] = ()
    """Further tags of the same content."""
    shape: str | None = None

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
    url: Url


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model card, whole."""

    name: str
    title: str
    description: str
    provider: str
    architecture: str
    license: str
    variants: tuple[Variant, ...]
    shapes: dict[str, CardShape] = {}
    """The models of the family, by a name that its variants use."""
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
    yield from _shape_problems(card)
    for text in _texts(msgspec.to_builtins(card)):
        if not text.isprintable():
            yield f"{text[:80]!r} has a character that cannot be printed"


def _shape_problems(card: Card) -> Iterator[str]:
    used = [variant.shape for variant in card.variants if variant.shape is not None]
    for name in used:
        if name not in card.shapes:
            yield f"there is no shape `{name}`"
    for name, shape in card.shapes.items():
        architecture = shape.architecture or card.architecture
        if name not in used:
            yield f"no variant has the shape `{name}`"
        elif architecture not in _DRAWN:
            yield f"shape `{name}`: the memory of `{architecture}` needs more than these numbers"
        elif not shape.outline(card.architecture).possible or shape.expert_used_count > shape.expert_count:
            yield f"shape `{name}`: no model can have these numbers"


def _texts(value: object) -> Iterator[str]:
    """Every text in a document, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


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
