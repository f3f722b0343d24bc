"""How the next token is chosen: the values a caller may set, and the order llama.cpp applies them in."""

import math
from typing import Any, Final, Literal, NamedTuple, TypedDict

import msgspec

from qwenctl.errors import InvalidRequest

# Source: llama.h, LLAMA_DEFAULT_SEED: llama.cpp draws a random seed itself when it gets this one.
RANDOM_SEED: Final = 0xFFFF_FFFF

MAX_BIASES: Final = 1024
MAX_BREAKERS: Final = 16  # llama.cpp compares each with the whole vocabulary, 7 ms for 150,000 tokens
MAX_BREAKER_LENGTH: Final = 40
MAX_GRAMMAR_LENGTH: Final = 256 * 1024
MAX_TRIGGERS: Final = 16
MAX_TRIGGER_LENGTH: Final = 64

_RANGES: Final[dict[str, tuple[float, float]]] = {
    "temperature": (0.0, 100.0),
    "top_k": (0, 2**31 - 1),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    # Source: llama.h, llama_sampler_init_penalties: the repeat penalty divides, so it must be positive.
    "repeat_penalty": (1e-6, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "penalty_window": (0, 1 << 20),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 100.0),
    "dry_allowed_length": (0, 1 << 20),
    "dry_window": (0, 1 << 20),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 100.0),
    "mirostat_eta": (0.0, 1.0),
    "seed": (0, RANDOM_SEED),
}


GrammarReasoning = Literal["free", "open", "ruled"]


class Guidance(TypedDict, total=False):
    """The fields of `Sampling` that decide about the form of an answer."""

    grammar: str
    grammar_triggers: tuple[str, ...]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling parameters, valid once they exist; the defaults are llama.cpp's own.

    `temperature` 0 is greedy: always the likeliest token after the penalties. `top_k` 0, `top_p` 1,
    `min_p` 0, `typical_p` 1, `repeat_penalty` 1 and the other penalties at 0 switch that step off.
    `penalty_window` is the number of last tokens, prompt included, that the penalties look at, `dry_window`
    the same for DRY, which is on with a `dry_multiplier`. XTC is on with an `xtc_probability`. `mirostat`
    1 or 2 replaces all filters by one that holds the surprise at `mirostat_tau`. `logit_bias` adds to the
    logits of tokens. `grammar` (GBNF with a rule `root`) allows only texts that it derives; where there are
    `grammar_triggers`, all text is allowed up to the first of them, and the grammar says what may follow it.
    `grammar_reasoning` is what it means for the reasoning before an answer: `free` leaves that alone, `open`
    too where the prompt has opened it already, `ruled` allows none. The engine knows what its prompt and its
    template make of `free`. `seed` None
    draws a new one for each request.

    Raises: InvalidRequest for a value outside its range.
    Source: common/common.h of llama.cpp, `common_params_sampling`.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int = 64
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_window: int = 4096
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int, float], ...] = ()
    grammar: str = ""
    grammar_triggers: tuple[str, ...] = ()
    grammar_reasoning: GrammarReasoning = "free"
    seed: int | None = None

    def __post_init__(self) -> None:
        self._check_lists()
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
                raise InvalidRequest(f"`{name}` is {value}, outside {low:g} to {high:g}")

    def _check_lists(self) -> None:
        if len(self.logit_bias) > MAX_BIASES or not all(math.isfinite(bias) for _, bias in self.logit_bias):
            raise InvalidRequest(f"`logit_bias` takes up to {MAX_BIASES} finite numbers")
        breakers = self.dry_sequence_breakers
        if len(breakers) > MAX_BREAKERS or not all(0 < len(text) <= MAX_BREAKER_LENGTH for text in breakers):
            limits = f"up to {MAX_BREAKERS} texts of 1 to {MAX_BREAKER_LENGTH} characters"
            raise InvalidRequest(f"`dry_sequence_breakers` takes {limits}")
        if len(self.grammar) > MAX_GRAMMAR_LENGTH or "\0" in self.grammar:
            raise InvalidRequest(f"`grammar` is longer than {MAX_GRAMMAR_LENGTH} characters, or no text")
        triggers = self.grammar_triggers
        if len(triggers) > MAX_TRIGGERS or not all(0 < len(text) <= MAX_TRIGGER_LENGTH for text in triggers):
            limits = f"up to {MAX_TRIGGERS} texts of 1 to {MAX_TRIGGER_LENGTH} characters"
            raise InvalidRequest(f"`grammar_triggers` takes {limits}")

    @property
    def history_tokens(self) -> int:
        """How many of the prompt's last tokens the sampler needs to know."""
        penalties = self.penalty_window if self.penalizes else 0
        return max(penalties, self.dry_window if self.dry_multiplier > 0 else 0)

    @property
    def penalizes(self) -> bool:
        """Whether any penalty is on, so that the sampler needs to know the prompt's last tokens."""
        neutral = self.repeat_penalty == 1.0 and self.presence_penalty == self.frequency_penalty == 0.0
        return self.penalty_window > 0 and not neutral


class Stage(NamedTuple):
    """One sampler of a chain: the end of the name of its `llama_sampler_init_…` and the arguments."""

    name: str
    arguments: tuple[Any, ...]


def stages(sampling: Sampling, vocabulary_size: int) -> tuple[Stage, ...]:
    """The samplers of a chain in llama.cpp's standard order; what is switched off is left out.

    Source: common/common.h, `common_params_sampling::samplers`: biases, penalties, dry, top_k, typical,
    top_p, min_p, xtc, temperature, then the draw; common/sampling.cpp for mirostat, without any filters.
    The 1 is `min_keep`: candidates a filter leaves at the least.
    """
    chain: list[Stage] = []
    if sampling.logit_bias:
        chain.append(Stage("logit_bias", sampling.logit_bias))
    if sampling.penalizes:
        penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        chain.append(Stage("penalties", (vocabulary_size, sampling.penalty_window, *penalties)))
    if sampling.dry_multiplier > 0 and sampling.dry_window > 0:
        numbers = (
            sampling.dry_multiplier,
            sampling.dry_base,
            sampling.dry_allowed_length,
            sampling.dry_window,
        )
        chain.append(Stage("dry", (*numbers, sampling.dry_sequence_breakers)))
    if sampling.temperature == 0:
        return (*chain, Stage("greedy", ()))
    seed = RANDOM_SEED if sampling.seed is None else sampling.seed
    if sampling.mirostat:
        return (*chain, Stage("temp", (sampling.temperature,)), _mirostat(sampling, vocabulary_size, seed))
    if sampling.top_k > 0:
        chain.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        chain.append(Stage("typical", (sampling.typical_p, 1)))
    if sampling.top_p < 1:
        chain.append(Stage("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0:
        chain.append(Stage("min_p", (sampling.min_p, 1)))
    if sampling.xtc_probability > 0:
        chain.append(Stage("xtc", (sampling.xtc_probability, sampling.xtc_threshold, 1, seed)))
    return (*chain, Stage("temp", (sampling.temperature,)), Stage("dist", (seed,)))


def _mirostat(sampling: Sampling, vocabulary_size: int, seed: int) -> Stage:
    """Source: common/sampling.cpp, where 100 is the `m` of version 1."""
    target = (seed, sampling.mirostat_tau, sampling.mirostat_eta)
    if sampling.mirostat == 1:
        return Stage("mirostat", (vocabulary_size, *target, 100))
    return Stage("mirostat_v2", target)
