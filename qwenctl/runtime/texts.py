"""The tokens of texts that become vectors, and of a query beside each document to be ranked."""

import re
from collections.abc import Sequence

from qwenctl.errors import InvalidRequest, PromptTooLong
from qwenctl.runtime.llama import LlamaModel, Vocabulary

_PLACES = re.compile(r"\{(query|document)\}")


def text_tokens(
    vocabulary: Vocabulary, texts: Sequence[str], longest: int, *, truncate: bool
) -> list[list[int]]:
    """The tokens of each text, framed as the model wants it.

    With `truncate` one that is longer than `longest` loses its last words, but not the token that closes it,
    which some models take the vector from.

    Raises: PromptTooLong with the numbers; InvalidRequest for a text without a token.
    """
    made = [vocabulary.tokenize(text) for text in texts]
    for number, tokens in enumerate(made, 1):
        if not tokens:
            raise InvalidRequest(f"text {number} is empty", hint="leave empty texts out")
        if len(tokens) <= longest:
            continue
        if not truncate:
            raise _too_long(f"text {number}", len(tokens), longest, "a shorter text, or `truncate`, helps")
        closing = tokens[-1:] if tokens[-1] in _closing(vocabulary) else []
        tokens[longest - len(closing) :] = closing
    return made


def pair_tokens(model: LlamaModel, query: str, documents: Sequence[str], longest: int) -> list[list[int]]:
    """The tokens of the query with each document: by the model's own `rerank` template, else with its
    special tokens between them.

    Raises: PromptTooLong with the numbers. Source: llama.cpp tools/server/server-common.cpp,
    `format_prompt_rerank`.
    """
    template = model.template("rerank")
    if template is not None:
        made = [model.vocabulary.tokenize(_filled(template, query, text), framed=False) for text in documents]
    else:
        made = _joined(model.vocabulary, query, documents)
    for number, tokens in enumerate(made, 1):
        if len(tokens) > longest:
            what = f"document {number} with the query"
            raise _too_long(what, len(tokens), longest, "split the document")
        if not tokens:
            raise InvalidRequest(f"document {number} and the query are empty")
    return made


def _filled(template: str, query: str, document: str) -> str:
    """One pass, so that a query may speak of `{document}`."""
    return _PLACES.sub(lambda match: query if match[1] == "query" else document, template)


def _joined(vocabulary: Vocabulary, query: str, documents: Sequence[str]) -> list[list[int]]:
    end = vocabulary.end_of_sequence or vocabulary.separator
    beginning, separator = vocabulary.beginning_of_sequence, vocabulary.separator
    opening = [beginning.id] if beginning and vocabulary.adds_beginning else []
    closing = [end.id] if end and vocabulary.adds_end else []
    between = [separator.id] if separator and vocabulary.adds_separator else []

    def bare(text: str) -> list[int]:
        return vocabulary.tokenize(text, framed=False, specials=False)

    front = [*opening, *bare(query), *closing, *between]
    return [[*front, *bare(text), *closing] for text in documents]


def _closing(vocabulary: Vocabulary) -> set[int]:
    return {token.id for token in (vocabulary.end_of_sequence, vocabulary.separator) if token is not None}


def _too_long(what: str, count: int, longest: int, hint: str) -> PromptTooLong:
    return PromptTooLong(f"{what} has {count} tokens, the model takes {longest}", hint=hint)
