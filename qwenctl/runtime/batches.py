"""What one decode call computes: the pure decision, and the role of what carries it out."""

from collections.abc import Iterable, Sequence
from enum import Enum
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from qwenctl.runtime.events import TokenLogprob
from qwenctl.runtime.sampling import Sampling


class Span(NamedTuple):
    """Successive tokens of one sequence, the first at position `start`.

    `logits` is after how many of the last of them a next token can be sampled: 1 after a prompt or a sampled
    token, more where drafted tokens follow, 0 in the midst of a prompt.
    """

    sequence: int
    start: int
    tokens: list[int]
    logits: int


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

    @property
    def draft(self) -> Sequence[int]:
        """Tokens that may come next, to be verified with the one that waits."""
        ...


def compose(backlogs: Iterable[Backlog], limit: int) -> list[Span]:
    """Spans of up to `limit` tokens in all, sorted by sequence.

    Generations, which wait for one token each, come before prompts: a long prompt fills what they leave
    and never stops them. Drafts come between them, as far as all of them fit, and take half of the room where
    prompts wait. Prompts are served in the order
    of `backlogs`, first come first done. `limit` is at least the number of backlogs, so a generation always
    has its place.

    The sorting is for llama.cpp, which computes sequences together only where their ids ascend without a
    gap, and only as many tokens of each as the shortest has: so drafts are cut to one length.
    Source: llama-batch.cpp, llama_batch_allocr::split_equal with `sequential`.
    """
    spans: list[Span] = []
    prompts: list[Backlog] = []
    drafts: list[Backlog] = []
    for backlog in backlogs:
        decoded, tokens = backlog.decoded, backlog.tokens
        if len(tokens) - decoded > 1:
            prompts.append(backlog)
        elif backlog.draft:
            drafts.append(backlog)
        else:
            spans.append(Span(backlog.sequence, decoded, tokens[decoded:], 1))
    room = limit - len(spans) - len(drafts)
    guessed = room // 2 if prompts else room
    length = min([guessed // max(1, len(drafts)), *(len(backlog.draft) for backlog in drafts)])
    for backlog in drafts:
        chunk = [backlog.tokens[-1], *backlog.draft[:length]]
        spans.append(Span(backlog.sequence, backlog.decoded, chunk, len(chunk)))
    room -= length * len(drafts)
    for backlog in prompts:
        start, pending = backlog.decoded, len(backlog.tokens) - backlog.decoded
        size = min(pending, room)
        if size == 0:
            break
        room -= size
        chunk = backlog.tokens[start : start + size]
        spans.append(Span(backlog.sequence, start, chunk, int(size == pending)))
    spans.sort(key=_sequence)
    return spans


_sequence: Final = attrgetter("sequence")


State = bytearray
"""What a sequence of the KV cache holds, in llama.cpp's own format."""


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

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        """How likely `token` and the `top` likeliest ones were after that row, by the bare logits."""
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

    @property
    def rewinds(self) -> bool:
        """Whether a sequence can be cut at any position; recurrent state cannot."""
        ...

    @property
    def shifts(self) -> bool:
        """Whether `drop` works."""
        ...

    def keep(self, sequence: int, length: int) -> bool:
        """Forgets all but the first `length` positions of a sequence.

        False where the model cannot (recurrent state): then the whole sequence is forgotten.
        """
        ...

    def drop(self, sequence: int, start: int, count: int) -> None:
        """Forgets `count` positions from `start` on; those behind move up at the next decode."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Makes sequence `target` hold what `source` holds now; the copying is done by the next decode."""
        ...

    def state_bytes(self, sequence: int) -> int:
        """The size of what `save` would give; 0 when it would give nothing."""
        ...

    def save(self, sequence: int) -> State | None:
        """What the sequence holds; None while a copy of it is still to be done, or where llama.cpp cannot."""
        ...

    def restore(self, sequence: int, state: State) -> bool:
        """Makes the sequence hold what was saved. False where that failed: then it holds anything."""
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
