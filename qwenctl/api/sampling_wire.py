"""The fields that say how tokens are chosen and where an answer ends, alike in all of OpenAI's calls. Pure.

Source: OpenAI API reference, "Chat"; `top_k`, `min_p`, `repeat_penalty`, `dry_…`, `xtc_…`, `mirostat…` and
`grammar` as llama.cpp's server names them. `overflow` and `keep_alive` are ours.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from qwenctl.api.host import KeepAlive
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import Overflow, Request
from qwenctl.runtime.sampling import RANDOM_SEED, Guidance, Sampling

MAX_CHOICES: Final = 16
"""Answers to one prompt in one call; each is a request of its own to the engine."""


class SamplingFields(msgspec.Struct, frozen=True, kw_only=True):
    """What every call that generates may have; null means the same as absent everywhere."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    grammar: str | None = None
    stop: str | tuple[str, ...] | None = None
    overflow: Overflow | None = None
    keep_alive: KeepAlive = None

    def sampling(self, suggested: Mapping[str, float], guidance: Guidance) -> Sampling:
        """The engine's form; `suggested` is the model's own, for what the call leaves open.

        Raises: InvalidRequest for values out of range.
        """
        values = {ours: getattr(self, name) for name, ours in _SAMPLING_FIELDS.items()}
        given: dict[str, Any] = dict(suggested) | {
            name: value for name, value in values.items() if value is not None
        }
        if self.seed is not None:
            # The API allows any integer; llama.cpp has 32 bits, and the last value means "random" to it.
            given["seed"] = self.seed % RANDOM_SEED
        if self.logit_bias:
            given["logit_bias"] = tuple((_token(key), bias) for key, bias in self.logit_bias.items())
        return Sampling(**given, **guidance)

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else self.stop or ()


def choices(n: int | None) -> int:
    """How many answers `n` asks for. Raises: InvalidRequest."""
    if n is None:
        return 1
    if not 1 <= n <= MAX_CHOICES:
        raise InvalidRequest(f"`n` is {n}, outside 1 to {MAX_CHOICES}")
    return n


def seeded(request: Request, count: int) -> Sequence[Request]:
    """`count` requests for as many answers: with a seed each has its own, counted up from the first."""
    seed = request.sampling.seed
    if seed is None or count == 1:
        return [request] * count
    samplings = [replace(request.sampling, seed=(seed + index) % RANDOM_SEED) for index in range(count)]
    return [replace(request, sampling=sampling) for sampling in samplings]


_SAME: Final = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "typical_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_sequence_breakers",
    "xtc_probability",
    "xtc_threshold",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
)
_SAMPLING_FIELDS: Final = {name: name for name in _SAME} | {
    "repeat_last_n": "penalty_window",
    "dry_penalty_last_n": "dry_window",
}
"""Fields of the call, each with the name of the sampling value that it sets."""


def _token(key: str) -> int:
    if not key.isdecimal() or len(key) > 9:
        raise InvalidRequest(f"`logit_bias`: `{key[:100]}` is not the number of a token")
    return int(key)
