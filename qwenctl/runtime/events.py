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
    """The prompt is in the KV cache; `cached_tokens` of it were there already."""

    prompt_tokens: int
    cached_tokens: int
    seconds: float


class TextDelta(msgspec.Struct, frozen=True, tag="text_delta"):
    """Whole characters, never part of a stop string; `tokens` were sampled since the delta before."""

    text: str
    tokens: int


class Finished(msgspec.Struct, frozen=True, tag="finished"):
    """The end: the model or a stop string ended it, a limit was met, or the caller cancelled."""

    reason: FinishReason
    usage: Usage


Event = PromptProcessed | TextDelta | Finished
