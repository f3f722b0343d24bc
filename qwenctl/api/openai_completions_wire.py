"""OpenAI's completions (the older form: text that goes on) as types, and what they mean to the engine. Pure.

Source: OpenAI API reference, "Completions". `max_tokens` has no default of 16 here: as at llama.cpp's server
and at Ollama an answer ends by itself, or with the context.
"""

from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from qwenctl.api.openai_chat_wire import ResponseFormat, StreamOptions
from qwenctl.api.openai_forms import LEAST_LOGPROB, answer_guidance
from qwenctl.api.openai_inputs import texts_of
from qwenctl.api.openai_usage import UsageBlock
from qwenctl.api.sampling_wire import SamplingFields, choices, seeded
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import MAX_TOP_LOGPROBS, CompletionRequest, Request
from qwenctl.runtime.events import TokenLogprob

MAX_ANSWERS: Final = 128
"""Prompts times answers to each, in one call."""


class CompletionCall(SamplingFields, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`."""

    model: str
    prompt: Any = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    response_format: ResponseFormat | None = None

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        """How many answers it asks for to each prompt. Raises: InvalidRequest."""
        return choices(self.n)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts to go on with. Raises: InvalidRequest."""
        return texts_of(self.prompt, "prompt")

    def requests(self, suggested: Mapping[str, float] = MappingProxyType({})) -> Sequence[Request]:
        """What the engine is asked: all answers to the first prompt, then to the next.

        Raises: InvalidRequest for what we cannot do, or values out of range.
        """
        self._refuse()
        form = self.response_format.grammar() if self.response_format is not None else ""
        guidance = answer_guidance(form, self.grammar, (), "auto", "response_format")
        sampling = self.sampling(suggested, guidance)
        asked = [
            CompletionRequest(
                prompt=prompt,
                sampling=sampling,
                max_tokens=self.max_tokens,
                stop=self.stops,
                top_logprobs=self.logprobs,
                overflow=self.overflow or "refuse",
            )
            for prompt in self.prompts
        ]
        return [one for request in asked for one in seeded(request, self.choices)]

    def _refuse(self) -> None:
        """Raises: InvalidRequest for what we cannot do."""
        if self.prompt is None:
            raise InvalidRequest("`prompt` is missing")
        if self.suffix:
            raise InvalidRequest(
                "`suffix` is not supported", hint="write the model's own tokens into the prompt"
            )
        if self.best_of not in (None, 1, self.choices):
            raise InvalidRequest("`best_of` is not supported", hint="ask for `n` with `logprobs` and choose")
        if self.echo and self.logprobs is not None:
            raise InvalidRequest("`echo` and `logprobs` exclude each other: a prompt's tokens are not rated")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_TOP_LOGPROBS:
            raise InvalidRequest(f"`logprobs` is {self.logprobs}, outside 0 to {MAX_TOP_LOGPROBS}")
        answers = len(self.prompts) * self.choices
        if answers > MAX_ANSWERS:
            raise InvalidRequest(
                f"`prompt` and `n` ask for {answers} answers, but {MAX_ANSWERS} are the most"
            )


class CompletionLogprobs(msgspec.Struct, frozen=True):
    """The tokens of an answer, each with its likelihood, and where it begins in the text, in characters."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or in a stream what is added to it."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, or one event of a stream."""

    id: str
    created: int
    model: str
    choices: tuple[CompletionChoice, ...]
    object: str = "text_completion"
    usage: UsageBlock | msgspec.UnsetType = msgspec.UNSET


class Offsets:
    """Where the tokens of one answer begin, fed as they come; a token may be a part of a character."""

    def __init__(self) -> None:
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._offset = 0

    def rated(self, logprobs: Sequence[TokenLogprob]) -> CompletionLogprobs:
        """The next tokens in this API's form."""
        offsets: list[int] = []
        for one in logprobs:
            offsets.append(self._offset)
            self._offset += len(self._decoder.decode(one.chosen.piece))
        return CompletionLogprobs(
            tokens=[_text(one.chosen.piece) for one in logprobs],
            token_logprobs=[_least(one.chosen.logprob) for one in logprobs],
            top_logprobs=[_top(one) for one in logprobs],
            text_offset=offsets,
        )


def _top(one: TokenLogprob) -> dict[str, float]:
    """The likeliest tokens, and the one that came if it is not among them."""
    return {_text(other.piece): _least(other.logprob) for other in (one.chosen, *one.top)}


def _text(piece: bytes) -> str:
    return piece.decode(errors="replace")


def _least(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
