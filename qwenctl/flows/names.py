"""From what a person types to a reference: the catalogue's names first, then the grammar's defaults.

guide                 in the built-in registry → qwenctl.internal/guide:latest
Qwen2.5-7B-Instruct   an alias on a model card → docker.io/ai/qwen2.5:7B-Q4_K_M
qwen2.5               by the defaults          → docker.io/ai/qwen2.5:latest
4f0c12ab34cd          an id in the store       → the reference that it is stored under
"""

import difflib
import re
from collections.abc import Iterable
from typing import Final, Protocol

from qwenctl.errors import ReferenceUnknown
from qwenctl.oci.descriptor import Descriptor
from qwenctl.oci.reference import BUILT_IN, DOCKER_HUB, Reference

_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")
_NEAR: Final = 3  # suggestions shown


class Names(Protocol):
    """What the catalogue knows about names."""

    def is_built_in(self, name: str) -> bool:
        """Whether the built-in registry has a repository of this name."""
        ...

    def alias(self, name: str) -> tuple[str, str] | None:
        """The family and tag that a model card calls `name`, in any case; None when no card does."""
        ...

    def known(self) -> Iterable[str]:
        """Every short name with its tags, for suggestions."""
        ...


class Tagged(Protocol):
    """What a store knows about names."""

    def tags(self) -> Iterable[tuple[Reference, Descriptor]]:
        """Every tag with what it names."""
        ...

    def find(self, prefix: str) -> tuple[Reference | None, Descriptor]:
        """The model whose id begins with `prefix`. Raises: ReferenceUnknown, Conflict."""
        ...


def parse_name(text: str, names: Names, registry: str = DOCKER_HUB) -> Reference:
    """The reference that `text` means. Raises: InvalidReference."""
    short = Reference.parse(text, registry=registry)
    if "/" in text:
        return short
    name = short.repository.rpartition("/")[2]
    if names.is_built_in(name):
        return Reference(BUILT_IN, name, short.tag, short.digest)
    if not re.search(r"[:@]", text) and (target := names.alias(text.strip())):
        family, tag = target
        return Reference.parse(f"{family}:{tag}", registry=registry)
    return short


def is_id(text: str) -> bool:
    """Whether `text` looks like the id of a model rather than a name."""
    return _ID.fullmatch(text) is not None


def near_names(reference: Reference, known_names: Iterable[str], store: Tagged) -> tuple[str, ...]:
    """Up to three names that `reference` may have been meant to be, best first.

    They come from `known_names` and from the tags of the store.
    """
    known = {*known_names, *(tagged.familiar() for tagged, _ in store.tags())}
    wanted = reference.familiar()
    by_fold = {name.casefold(): name for name in sorted(known)}
    folded = difflib.get_close_matches(wanted.casefold(), by_fold, n=_NEAR, cutoff=0.6)
    return tuple(by_fold[name] for name in folded if by_fold[name] != wanted)


def unknown(reference: Reference, near: tuple[str, ...], where: str) -> ReferenceUnknown:
    """The error for a model that is not at `where`, with the near names as its hint."""
    hint = f"did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else None
    return ReferenceUnknown(f"no model `{reference.familiar()}` {where}", hint=hint)
