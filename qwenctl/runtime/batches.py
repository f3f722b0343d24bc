"""What one decode call computes: the pure decision, and the role of what carries it out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from qwenctl.runtime.sampling import Sampling


@dataclass(frozen=True, slots=True)
class Span:
    """Successive tokens of one sequence, the first at position `start`.

    With `logits` the next token can be sampled after the last of them.
    """

    sequence: int
    start: int
    tokens: list[int]
    logits: bool


class Backlog(Protocol):
    """One sequence's tokens, of which the first `decoded` are in the KV cache."""

    @property
    def sequence(self) -> int:
        """The sequence in the KV cache."""
        ...

    @property
    def tokens(self) -> list[int]:
        """All known tokens, prompt and sampled ones."""
        ...

    @property
    def decoded(self) -> int:
        """How many of `tokens` are in the KV cache."""
        ...


def compose(backlogs: Iterable[Backlog], limit: int) -> list[Span]:
    """Spans of up to `limit` tokens in all, sorted by sequence.

    Generations, which wait for one token each, come before prompts: a long prompt fills what they leave
    and never stops them. Prompts are served in the order of `backlogs`, first come first done. `limit` is
    at least the number of backlogs, so a generation always has its place.

    The sorting is for llama.cpp, which computes sequences together only where their ids ascend without a
    gap. Source: llama-batch.cpp, llama_batch_allocr::split_equal with `sequential`.
    """
    waiting = [(backlog, len(backlog.tokens) - backlog.decoded) for backlog in backlogs]
    room = limit - sum(1 for _, pending in waiting if pending == 1)
    spans: list[Span] = []
    for backlog, pending in waiting:
        size = 1 if pending == 1 else min(pending, room)
        if size == 0:
            continue
        room -= size if pending > 1 else 0
        start = backlog.decoded
        chunk = backlog.tokens[start : start + size]
        spans.append(Span(backlog.sequence, start, chunk, size == pending))
    return sorted(spans, key=lambda span: span.sequence)


class Outcome(Enum):
    """How a decode call ended."""

    DONE = "done"
    INTERRUPTED = "interrupted"
    NO_MEMORY = "no memory"
    FAILED = "failed"


class Sampler(Protocol):
    """The sampling state of one request; whoever made it closes it."""

    def sample(self, row: int) -> int:
        """The next token after row `row` of the last decode; the token counts for the penalties."""
        ...

    def close(self) -> None:
        """Frees it. Call once."""
        ...


class Decoder(Protocol):
    """What the scheduler needs of llama.cpp. One thread calls it; only `interrupt` may come from others."""

    @property
    def batch_tokens(self) -> int:
        """The most tokens of one `decode`."""
        ...

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """Computes `spans`. Unless DONE, the sequences may hold any part of them: `keep` before going on.

        Rows for `Sampler.sample` count the tokens of all spans in order, from 0.
        """
        ...

    def keep(self, sequence: int, length: int) -> bool:
        """Forgets all but the first `length` positions of a sequence.

        False where the model cannot (recurrent state): then the whole sequence is forgotten.
        """
        ...

    def sampler(self, sampling: Sampling, history: Sequence[int]) -> Sampler:
        """A sampler that has seen `history`."""
        ...

    def piece(self, token: int) -> bytes:
        """The bytes of a token as part of a text; nothing for control tokens."""
        ...

    def ends(self, token: int) -> bool:
        """Whether the model ends its answer with this token."""
        ...

    def interrupt(self, requested: bool) -> None:
        """Makes a running and every later `decode` return INTERRUPTED soon, until called with False."""
        ...

    def last_error(self) -> str:
        """Why the last `decode` failed, in llama.cpp's own words."""
        ...
