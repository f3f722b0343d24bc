"""A small model that drafts for a large one of the same vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from qwenctl.errors import LoadFailed
from qwenctl.runtime.batches import Outcome, Span, compose
from qwenctl.runtime.decoder import LlamaDecoder
from qwenctl.runtime.engine import EngineOptions
from qwenctl.runtime.llama import LlamaModel, Vocabulary
from qwenctl.runtime.sampling import Sampling
from qwenctl.runtime.slots import common_prefix
from qwenctl.runtime.speculation import Drafter, Guess, Lookup

# A family pads the vocabulary of its sizes differently, and to compare all names would take too long.
# Source: llama.cpp common/speculative.cpp, SPEC_VOCAB_MAX_SIZE_DIFFERENCE.
_PADDING_TOKENS: Final = 128
_COMPARED_TOKENS: Final = 4096


@dataclass(slots=True)
class _Draft:
    """A sequence of the small model: a `Backlog` that catches up with the large one."""

    sequence: int
    tokens: list[int] = field(default_factory=list)
    decoded: int = 0
    draft: tuple[int, ...] = ()


class DraftModel:
    """`speculation.Drafter` with a model and a context of its own; the caller closes it.

    A sequence that is far behind, as after a long prompt, catches up a batch at a time before it drafts.
    """

    def __init__(self, target: LlamaModel, options: EngineOptions, context_length: int) -> None:
        """Raises: LoadFailed for a model of another vocabulary, or none; what opening a model raises."""
        if options.draft is None:
            raise LoadFailed("drafting with a model needs one", hint="name a small model of the same family")
        own = msgspec.structs.replace(
            options,
            path=options.draft,
            speculation="off",
            draft=None,
            tensor_split=(),
            splits=(),
            adapters=(),
        )
        self._model = LlamaModel(own)
        try:
            _check_vocabulary(target.vocabulary, self._model.vocabulary, options)
            length = min(context_length, self._model.trained_context_length)
            own = msgspec.structs.replace(own, context_length=length)
            self._decoder = LlamaDecoder(self._model, own, length)
        except BaseException:
            self._model.close()
            raise
        self._length: Final = length
        self._tokens: Final = min(target.vocabulary.size, self._model.vocabulary.size)
        self._sampler = self._decoder.sampler(Sampling(temperature=0), ())
        self._drafts = [_Draft(sequence) for sequence in range(options.slots)]

    def draft(self, guesses: Sequence[Guess]) -> list[list[int]]:
        """See `speculation.Drafter`."""
        for guess in guesses:
            self._follow(guess)
        wanted = {guess.sequence: guess.count for guess in guesses}
        found: dict[int, list[int]] = {sequence: [] for sequence in wanted}
        active = sorted(wanted)
        while active:
            active = self._step(active, found)
            active = [sequence for sequence in active if len(found[sequence]) < wanted[sequence]]
        return [found[guess.sequence] for guess in guesses]

    def close(self) -> None:
        """Frees model and context. Call once."""
        self._sampler.close()
        self._decoder.close()
        self._model.close()

    def _follow(self, guess: Guess) -> None:
        """Cuts the sequence where the large model went another way."""
        own = self._drafts[guess.sequence]
        shared = min(common_prefix(own.tokens, guess.tokens), own.decoded, len(guess.tokens) - 1)
        if shared < own.decoded and not self._decoder.keep(own.sequence, shared):
            shared = 0
        own.tokens, own.decoded = list(guess.tokens), shared

    def _step(self, active: Sequence[int], found: dict[int, list[int]]) -> list[int]:
        """One decode: adds a token to what was found for each that is in step; returns who can go on."""
        backlogs = [own for own in map(self._drafts.__getitem__, active) if len(own.tokens) <= self._length]
        spans = compose(backlogs, self._decoder.batch_tokens)
        if not spans:
            return []
        if self._decoder.decode(spans) is not Outcome.DONE:
            self._reset(spans)
            return []
        row, drafted = -1, []
        for span in spans:
            row += len(span.tokens)
            own = self._drafts[span.sequence]
            own.decoded += len(span.tokens)
            if span.logits:
                token = self._sampler.sample(row)
                if token < self._tokens and not self._decoder.ends(token):
                    own.tokens.append(token)
                    found[span.sequence].append(token)
                    drafted.append(span.sequence)
        return drafted

    def _reset(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self._decoder.keep(span.sequence, 0)
            self._drafts[span.sequence].decoded = 0


def open_drafter(target: LlamaModel, options: EngineOptions, context_length: int) -> Drafter | None:
    """What guesses for `target`, as the options say; None without speculation. Raises: as `DraftModel`."""
    if options.speculation == "off":
        return None
    return Lookup() if options.speculation == "lookup" else DraftModel(target, options, context_length)


def _check_vocabulary(target: Vocabulary, draft: Vocabulary, options: EngineOptions) -> None:
    same = abs(target.size - draft.size) <= _PADDING_TOKENS
    same = same and (target.beginning_of_sequence, target.end_of_sequence) == (
        draft.beginning_of_sequence,
        draft.end_of_sequence,
    )
    size = min(target.size, draft.size)
    step = max(1, size // _COMPARED_TOKENS)
    if not same or any(target.piece(token) != draft.piece(token) for token in range(0, size, step)):
        raise LoadFailed(
            f"the draft model has another vocabulary than `{options.path.name}`",
            hint="draft with a smaller model of the same family",
        )
