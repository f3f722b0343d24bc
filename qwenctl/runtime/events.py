"""What an engine says about one request: a closed set of values, in one order.

    PromptProcessed   once, when the first token is known (not if cancelled before)
    TextDelta         any number of times
    Finished          exactly once, last

A request that fails raises (or reports the error, see `engine.Observer`) and has no `Finished`.
"""

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "cancelled"]


class Usage(msgspec.Struct, frozen=True):
    """What a request cost. `prompt_tokens` counts the cached ones too; waiting in the queue is in no figure.

    `completion_tokens` counts every sampled token, the end-of-generation token and those of a stop
    string included.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    prompt_seconds: float
    completion_seconds: float


class PromptProcessed(msgspec.Struct, frozen=True, tag="prompt_processed"):
    """The prompt is in the KV cache; `cached_tokens` of it were there already.

    `reasoning` tells that the prompt ends inside of a `<think>` that the template opened.
    """

    prompt_tokens: int
    cached_tokens: int
    seconds: float
    reasoning: bool = False


class Likelihood(msgspec.Struct, frozen=True):
    """A token that might come, and the natural logarithm of its probability before any sampling stage."""

    token: int
    piece: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that came, and the likeliest ones at its place, the likeliest first."""

    chosen: Likelihood
    top: tuple[Likelihood, ...] = ()


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    """Whole characters, never part of a stop string; `tokens` were sampled since the delta before.

    `logprobs` has one value for each of these tokens where the request asked for them.
    """

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The end: the model or a stop string ended it, a limit was met, or the caller cancelled.

    `stop` is the stop string that ended it.
    """

    reason: FinishReason
    usage: Usage
    stop: str | None = None


Event = PromptProcessed | TextDelta | Finished
