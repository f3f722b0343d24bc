"""A `Decoder` without llama.cpp that knows what it holds, and refuses what a real KV cache would."""

import threading
from array import array
from collections.abc import Callable, Sequence
from queue import Queue

from qwenctl.runtime.batches import Outcome, Sampler, Span, State
from qwenctl.runtime.events import Likelihood, TokenLogprob
from qwenctl.runtime.sampling import Sampling

END = 0

Next = Callable[[Sequence[int]], int]


def count_up(tokens: Sequence[int]) -> int:
    """The default model: one more than the token before."""
    return tokens[-1] + 1


def never(spans: Sequence[Span]) -> bool:
    """Holds no decode."""
    return False


def always(spans: Sequence[Span]) -> bool:
    """Holds every decode."""
    return True


class ScriptedDecoder:
    """Holds the tokens of every sequence; the next token is a function of them.

    `poison` is a token that makes every decode fail that contains it. While `hold` says so, a decode
    blocks, after it put its number of spans into `held`, until it is interrupted. `rewinds` False behaves
    as recurrent models do.
    """

    def __init__(self, next_token: Next = count_up, *, batch_tokens: int = 8, rewinds: bool = True) -> None:
        self.batch_tokens = batch_tokens
        self.poison: int | None = None
        self.hold: Callable[[Sequence[Span]], bool] = never
        self.held: Queue[int] = Queue()
        self.calls: list[list[Span]] = []
        self.samplers_open = 0
        self._next_token = next_token
        self.rewinds = self.shifts = rewinds
        self.copies: list[tuple[int, int]] = []
        self.saves: list[int] = []
        self._held: dict[int, list[int]] = {}
        self._rows: list[list[int] | None] = []
        self._interrupted = threading.Event()

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """See `Decoder`."""
        self.calls.append(list(spans))
        assert 0 < sum(len(span.tokens) for span in spans) <= self.batch_tokens
        assert [span.sequence for span in spans] == sorted({span.sequence for span in spans})
        if not self._waits(spans):
            self._hold(spans[:1])  # part of the work was done
            return Outcome.INTERRUPTED
        if any(self.poison in span.tokens for span in spans):
            self._hold(spans)
            return Outcome.FAILED
        self._rows = []
        self._hold(spans)
        for span in spans:
            held = self._held[span.sequence]
            ends = range(len(held) - len(span.tokens) + 1, len(held) + 1)
            sampled = ends[len(ends) - span.logits :]
            self._rows += [held[:end] if end in sampled else None for end in ends]
        return Outcome.DONE

    def _waits(self, spans: Sequence[Span]) -> bool:
        """Blocks as long as `hold` says; False when interrupted."""
        if self.hold(spans):
            self.held.put(len(spans))
        while self.hold(spans):
            if self._interrupted.wait(0.001):
                return False
        return not self._interrupted.is_set()

    def _hold(self, spans: Sequence[Span]) -> None:
        for span in spans:
            held = self._held.setdefault(span.sequence, [])
            assert len(held) == span.start, "positions follow each other without a hole"
            held += span.tokens

    def keep(self, sequence: int, length: int) -> bool:
        """See `Decoder`."""
        held = self._held.setdefault(sequence, [])
        whole = self.rewinds or length in (0, len(held))
        del held[length if whole else 0 :]
        return whole

    def drop(self, sequence: int, start: int, count: int) -> None:
        """See `Decoder`."""
        assert self.shifts and 0 < count <= len(self._held[sequence]) - start
        del self._held[sequence][start : start + count]

    def copy(self, source: int, target: int) -> None:
        """See `Decoder`."""
        assert source != target and self.rewinds
        self._held[target] = list(self._held.get(source, []))
        self.copies.append((source, target))

    def state_bytes(self, sequence: int) -> int:
        """See `Decoder`."""
        return len(self._held.get(sequence, ())) * 4

    def save(self, sequence: int) -> State | None:
        """See `Decoder`."""
        self.saves.append(sequence)
        return bytearray(array("i", self._held[sequence]).tobytes())

    def restore(self, sequence: int, state: State) -> bool:
        """See `Decoder`."""
        self._held[sequence] = list(array("i", bytes(state)))
        return True

    def sampler(self, sampling: Sampling, history: Sequence[int]) -> Sampler:
        """See `Decoder`."""
        self.samplers_open += 1
        return _ScriptedSampler(self)

    def sample(self, row: int) -> int:
        """See `Decoder`."""
        held = self._rows[row]
        assert held is not None, "only rows with logits can be sampled"
        return self._next_token(held)

    def piece(self, token: int) -> bytes:
        """See `Decoder`."""
        return f"{token} ".encode()

    def ends(self, token: int) -> bool:
        """See `Decoder`."""
        return token == END

    def interrupt(self, requested: bool) -> None:
        """See `Decoder`."""
        (self._interrupted.set if requested else self._interrupted.clear)()

    def last_error(self) -> str:
        """See `Decoder`."""
        return "poison"


class _ScriptedSampler:
    def __init__(self, decoder: ScriptedDecoder) -> None:
        self._decoder = decoder

    def sample(self, row: int) -> int:
        return self._decoder.sample(row)

    def logprob(self, row: int, token: int, top: int) -> TokenLogprob:
        certain = Likelihood(token, self._decoder.piece(token), 0.0)
        return TokenLogprob(certain, (certain,) * min(top, 1))

    def close(self) -> None:
        self._decoder.samplers_open -= 1
