"""What was probably meant, for commands, options and keys."""

from collections.abc import Iterable
from typing import Final

_NEAR: Final = 3  # shown at the most
_CUTOFF: Final = 0.6  # of 1: `pul` is `pull`, `lsit` is `list`, `frob` is nothing


def near(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """The known words most like `word`, in any case, best first; those it begins come after them."""
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in known}
    wanted = word.casefold()
    found = get_close_matches(wanted, folded, n=_NEAR, cutoff=_CUTOFF)
    found += [name for name in folded if len(wanted) > 1 and name.startswith(wanted) and name not in found]
    return tuple(folded[name] for name in found[:_NEAR])


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """`did you mean `pull`?`; None when nothing is near."""
    return question(near(word, known))


def question(names: Iterable[str]) -> str | None:
    """`did you mean `a` or `b`?`; None for no name."""
    quoted = " or ".join(f"`{name}`" for name in names)
    return f"did you mean {quoted}?" if quoted else None
