"""Inputs that OpenAI's calls take as one text or several. Pure."""

from typing import Any, Final

from qwenctl.errors import InvalidRequest

MAX_INPUTS: Final = 2048
"""Source: OpenAI API reference, "Embeddings", `input`."""


def texts_of(value: Any, field: str) -> tuple[str, ...]:
    """The texts in `value`, which is one, or a list of them.

    Raises: InvalidRequest for anything else, ids of tokens among it, and for more than `MAX_INPUTS`.
    """
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not value:
        raise InvalidRequest(f"`{field}` is neither a text nor a list of texts")
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(f"`{field}` has {len(value)} entries, but {MAX_INPUTS} are the most")
    for number, text in enumerate(value):
        if not isinstance(text, str):
            ids = isinstance(text, int | list | tuple)
            raise InvalidRequest(
                f"`{field}[{number}]` is no text",
                hint="send texts: ids of tokens are not taken, because each model has its own"
                if ids
                else None,
            )
    return tuple(value)
