"""How fast a model is, from single requests: the prompts to send, and what the answers add up to. Pure."""

import math
import random
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

import msgspec

from qwenctl.errors import UsageError

COUNTS_LIMIT: Final = 1_000_000
_TEXT: Final = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work number night point home water "
    "room mother area money story fact month lot right study book eye job word business issue side kind head "
    "house service friend father power hour game line end member law car city name team minute idea body "
    "back parent face others level office door health person art war history party result change morning "
    "reason research girl guy moment air teacher force education"
)
_WORDS: Final = _TEXT.split()


class Case(msgspec.Struct, frozen=True, order=True):
    """What is measured together: so many requests at once, each with a prompt of about so many tokens."""

    concurrency: int
    prompt_tokens: int


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Seconds count from the moment in which all requests of its round were sent.

    `first_token_seconds` is when its first token came, `seconds` when its last did. `cached_tokens` of its
    prompt were not computed. `prompt_seconds` and `completion_seconds` are the engine's own figures.
    """

    concurrency: int
    requested_prompt_tokens: int
    round: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token_seconds: float
    seconds: float
    prompt_seconds: float
    completion_seconds: float


class Figure(msgspec.Struct, frozen=True):
    """A figure over several rounds: the median, the lowest and the highest."""

    median: float
    low: float
    high: float


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """A case over all its rounds. `prompt_tokens` are what a prompt really had, in the median.

    Speeds are of all requests of a round together: prompt tokens computed until the last of them has its
    first token; tokens generated between the earliest first token and the end of all. `each_per_second` is
    how fast the engine made one answer, in the median.
    """

    concurrency: int
    requested_prompt_tokens: int
    prompt_tokens: int
    rounds: int
    prompt_per_second: Figure
    generated_per_second: Figure
    each_per_second: float
    first_token_p50_seconds: float
    first_token_p95_seconds: float


def parse_counts(text: str, option: str) -> tuple[int, ...]:
    """`1,4,8` as numbers, each once, in order. Raises: UsageError, naming the `option`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part[:9]) <= COUNTS_LIMIT for part in parts):
        raise UsageError(f"`{option}` cannot be `{text}`", hint="write numbers like 1,4,8")
    return tuple(sorted({int(part) for part in parts}))


class Prompts:
    """Prompts that have nothing in common, so that none finds the beginning of another one in the cache.

    Common English words in random order; how many tokens a word has is the model's matter, so `learn` is told
    what prompts of so many words turned out to have. A fixed `text` takes the words' place.
    """

    def __init__(self, seed: int, text: str | None = None) -> None:
        self._random = random.Random(seed)  # noqa: S311 - words for a measurement, no secrets
        self._text = text
        self._fixed_tokens = 0.0
        self._tokens_per_word = 1.0

    def of_words(self, count: int) -> str:
        """A prompt of so many words, each time another."""
        return " ".join(self._random.choices(_WORDS, k=max(1, count)))

    def of_tokens(self, tokens: int) -> str:
        """A prompt of about so many tokens; the fixed text, if there is one, behind words of its own."""
        if self._text is not None:
            return f"{self.of_words(4)}: {self._text}"
        return self.of_words(round((tokens - self._fixed_tokens) / self._tokens_per_word))

    def learn(self, few: tuple[int, int], many: tuple[int, int]) -> None:
        """Take what two prompts had, as words and tokens: the rest is what the model's template adds."""
        (few_words, few_tokens), (many_words, many_tokens) = few, many
        slope = (many_tokens - few_tokens) / (many_words - few_words)
        self._tokens_per_word = max(slope, 0.1)
        self._fixed_tokens = max(0.0, few_tokens - self._tokens_per_word * few_words)


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def result_of(samples: Sequence[Sample]) -> CaseResult:
    """What the samples of one case add up to; there is one at the least."""
    rounds = [[sample for sample in samples if sample.round == n] for n in sorted({s.round for s in samples})]
    first = samples[0]
    firsts = [sample.first_token_seconds for sample in samples]
    return CaseResult(
        concurrency=first.concurrency,
        requested_prompt_tokens=first.requested_prompt_tokens,
        prompt_tokens=round(median(sample.prompt_tokens for sample in samples)),
        rounds=len(rounds),
        prompt_per_second=_figure(map(_prompt_speed, rounds)),
        generated_per_second=_figure(map(_generation_speed, rounds)),
        each_per_second=median(_rate(s.completion_tokens, s.completion_seconds) for s in samples),
        first_token_p50_seconds=percentile(firsts, 0.5),
        first_token_p95_seconds=percentile(firsts, 0.95),
    )


def results_of(samples: Sequence[Sample]) -> list[CaseResult]:
    """The results of all cases, in the order in which they were measured."""
    cases: dict[Case, list[Sample]] = {}
    for sample in samples:
        cases.setdefault(Case(sample.concurrency, sample.requested_prompt_tokens), []).append(sample)
    return [result_of(of_case) for of_case in cases.values()]


def _prompt_speed(samples: Sequence[Sample]) -> float:
    computed = sum(sample.prompt_tokens - sample.cached_tokens for sample in samples)
    return _rate(computed, max(sample.first_token_seconds for sample in samples))


def _generation_speed(samples: Sequence[Sample]) -> float:
    began = min(sample.first_token_seconds for sample in samples)
    after_first = sum(max(0, sample.completion_tokens - 1) for sample in samples)
    seconds = max(sample.seconds for sample in samples) - began
    # Tokens that come faster than a client reads arrive together: then the engine's own time is the truth.
    return _rate(after_first, max(seconds, *(sample.completion_seconds for sample in samples)))


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0


def _figure(values: Iterable[float]) -> Figure:
    found = list(values)
    return Figure(median(found), min(found), max(found))
