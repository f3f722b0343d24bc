"""How the next token is chosen: the values a caller may set, and the order llama.cpp applies them in."""

import math
from typing import Final, NamedTuple

import msgspec

from qwenctl.errors import InvalidRequest

# Source: llama.h, LLAMA_DEFAULT_SEED: llama.cpp draws a random seed itself when it gets this one.
RANDOM_SEED: Final = 0xFFFF_FFFF

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
    "seed": (0, RANDOM_SEED),
}


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """Sampling parameters, valid once they exist; the defaults are llama.cpp's own.

    `temperature` 0 is greedy: always the likeliest token after the penalties. `top_k` 0, `top_p` 1,
    `min_p` 0, `typical_p` 1, `repeat_penalty` 1 and the other penalties at 0 switch that step off.
    `penalty_window` is the number of last tokens, prompt included, that the penalties look at.
    `seed` None draws a new one for each request.

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
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None and name == "seed":
                continue
            if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
                raise InvalidRequest(f"`{name}` is {value}, outside {low:g} to {high:g}")

    @property
    def penalizes(self) -> bool:
        """Whether any penalty is on, so that the sampler needs to know the prompt's last tokens."""
        neutral = self.repeat_penalty == 1.0 and self.presence_penalty == self.frequency_penalty == 0.0
        return self.penalty_window > 0 and not neutral


class Stage(NamedTuple):
    """One sampler of a chain: the end of the name of its `llama_sampler_init_…` and the arguments."""

    name: str
    arguments: tuple[int | float, ...]


def stages(sampling: Sampling, vocabulary_size: int) -> tuple[Stage, ...]:
    """The samplers of a chain in llama.cpp's standard order; what is switched off is left out.

    Source: common/common.h, `common_params_sampling::samplers`: penalties, top_k, typical, top_p, min_p,
    temperature, then the draw. The 1 is `min_keep`: candidates a filter leaves at the least.
    """
    chain: list[Stage] = []
    if sampling.penalizes:
        penalties = (sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty)
        chain.append(Stage("penalties", (vocabulary_size, sampling.penalty_window, *penalties)))
    if sampling.temperature == 0:
        return (*chain, Stage("greedy", ()))
    if sampling.top_k > 0:
        chain.append(Stage("top_k", (sampling.top_k,)))
    if sampling.typical_p < 1:
        chain.append(Stage("typical", (sampling.typical_p, 1)))
    if sampling.top_p < 1:
        chain.append(Stage("top_p", (sampling.top_p, 1)))
    if sampling.min_p > 0:
        chain.append(Stage("min_p", (sampling.min_p, 1)))
    seed = RANDOM_SEED if sampling.seed is None else sampling.seed
    return (*chain, Stage("temp", (sampling.temperature,)), Stage("dist", (seed,)))
