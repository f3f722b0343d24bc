"""Ollama's chat, generate and embed as types, and what they mean to the engine. Pure.

Of the options that concern how a model is loaded `num_ctx` is the least context that will do; the others
(`num_gpu`, `num_thread`, …) are left to the plan that loads it. Those that change the answer are honoured or
refused. `truncate` and `shift` are on by default there; here text is left out only where a call asks for it.

Source: Ollama's docs/api.md and api/types.go (0.12).
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from qwenctl.api.host import KeepAlive
from qwenctl.api.openai_forms import form_or_calls
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import (
    ChatRequest,
    CompletionRequest,
    EmbedRequest,
    Message,
    Overflow,
    Request,
    ToolCall,
)
from qwenctl.runtime.events import Usage
from qwenctl.runtime.guidance import tool_guidance
from qwenctl.runtime.sampling import RANDOM_SEED, Guidance, Sampling
from qwenctl.runtime.schema import ANY_OBJECT, grammar_of

SECOND: Final = 1_000_000_000
"""In nanoseconds, which this API counts in."""

_EFFORTS: Final = ("low", "medium", "high")

_SAMPLING_OPTIONS: Final[Mapping[str, str]] = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "penalty_window",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}


class FunctionCall(msgspec.Struct, frozen=True):
    """Which function is called; `arguments` is an object here, not its text."""

    name: str
    arguments: dict[str, Any] = {}


class MessageToolCall(msgspec.Struct, frozen=True):
    """A call in a message."""

    function: FunctionCall


class ChatMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn, in both directions."""

    role: str
    content: str = ""
    thinking: str | None = None
    images: tuple[Any, ...] | None = None
    tool_calls: tuple[MessageToolCall, ...] | None = None
    tool_name: str | None = None

    def message(self) -> Message:
        """The engine's form of it. Raises: InvalidRequest for images."""
        if self.images:
            raise InvalidRequest("`images` are not supported", hint="send text")
        calls = tuple(
            ToolCall(call.function.name, msgspec.json.encode(call.function.arguments).decode())
            for call in self.tool_calls or ()
        )
        return Message(
            role=self.role,
            content=self.content,
            tool_calls=calls,
            name=self.tool_name,
            reasoning_content=self.thinking,
        )


class _Call(msgspec.Struct, frozen=True, kw_only=True):
    """What both calls share; null means the same as absent everywhere."""

    model: str
    stream: bool | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    keep_alive: KeepAlive = None
    think: bool | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    @property
    def context_length(self) -> int | None:
        """The least context that will do, in tokens. Raises: InvalidRequest."""
        wanted = (self.options or {}).get("num_ctx")
        if wanted is None:
            return None
        if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
            raise InvalidRequest("`options.num_ctx` is not a number of tokens")
        return wanted

    @property
    def streams(self) -> bool:
        """Whether the answer comes line by line, which is this API's default."""
        return self.stream is None or self.stream

    def _limits(self) -> dict[str, Any]:
        """The bounds of the answer."""
        options = self.options or {}
        predicted, stop = options.get("num_predict"), options.get("stop") or ()
        if predicted is not None and (not isinstance(predicted, int) or isinstance(predicted, bool)):
            raise InvalidRequest("`options.num_predict` is not a whole number")
        texts = (
            (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, list | tuple) else (stop,)
        )
        if not all(isinstance(text, str) for text in texts):
            raise InvalidRequest("`options.stop` is not a list of texts")
        return {
            "max_tokens": predicted if predicted and predicted > 0 else None,
            "stop": texts,
            "top_logprobs": (self.top_logprobs or 0) if self.logprobs else None,
            "overflow": self._overflow(),
        }

    def _overflow(self) -> Overflow:
        if self.shift:
            return "shift"
        return "truncate" if self.truncate else "refuse"

    def _sampling(self, suggested: Mapping[str, float]) -> Sampling:
        given: dict[str, Any] = dict(suggested)
        for name, value in (self.options or {}).items():
            if name not in _SAMPLING_OPTIONS and name != "seed":
                continue
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise InvalidRequest(f"`options.{name}` is not a number")
            given[_SAMPLING_OPTIONS.get(name, name)] = value
        if "seed" in given:
            given["seed"] = int(given["seed"]) % RANDOM_SEED
        if given.get("penalty_window", 0) < 0:
            given["penalty_window"] = 1 << 20  # -1 is the whole context
        return Sampling(**given, **self._guidance())

    def _guidance(self) -> Guidance:
        """What the answer must look like. Raises: InvalidRequest."""
        if not self.format:
            return {}
        if self.format == "json":
            return {"grammar": ANY_OBJECT}
        if isinstance(self.format, str):
            raise InvalidRequest(f"`format` cannot be `{self.format[:100]}`", hint='it is "json" or a schema')
        return {"grammar": grammar_of(self.format)}

    def _template_options(self) -> dict[str, bool | int | float | str]:
        if self.think is None:
            return {}
        if isinstance(self.think, bool):
            return {"enable_thinking": self.think}
        if self.think not in _EFFORTS:
            raise InvalidRequest(
                f"`think` cannot be `{self.think[:100]}`", hint=f"true, false or {', '.join(_EFFORTS)}"
            )
        return {"enable_thinking": True, "reasoning_effort": self.think}


class ChatCall(_Call, frozen=True, kw_only=True):
    """The body of `POST /api/chat`."""

    messages: tuple[ChatMessage, ...] = ()
    tools: tuple[dict[str, Any], ...] | None = None

    def _guidance(self) -> Guidance:
        form = super()._guidance()
        tools = self.tools or ()
        return form_or_calls(form["grammar"], tools) if form else tool_guidance(tools, "auto")

    @property
    def says_nothing(self) -> bool:
        """Whether there is nothing to answer: the call only loads the model, or unloads it."""
        return not self.messages

    def request(self, suggested: Mapping[str, float] = MappingProxyType({})) -> ChatRequest:
        """What the engine is asked. Raises: InvalidRequest."""
        return ChatRequest(
            messages=tuple(message.message() for message in self.messages),
            tools=self.tools or (),
            template_options=self._template_options(),
            sampling=self._sampling(suggested),
            **self._limits(),
        )


class GenerateCall(_Call, frozen=True, kw_only=True):
    """The body of `POST /api/generate`."""

    prompt: str = ""
    system: str | None = None
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    images: tuple[Any, ...] | None = None
    context: tuple[int, ...] | None = None

    @property
    def says_nothing(self) -> bool:
        """As of a chat."""
        return not self.prompt

    def request(self, suggested: Mapping[str, float] = MappingProxyType({})) -> Request:
        """What the engine is asked: a chat of one turn, or the prompt as it is. Raises: InvalidRequest."""
        for name in ("suffix", "template", "images", "context"):
            if getattr(self, name):
                raise InvalidRequest(f"`{name}` is not supported", hint="leave it out")
        sampling = self._sampling(suggested)
        if self.raw:
            return CompletionRequest(prompt=self.prompt, sampling=sampling, **self._limits())
        turns = [Message("system", self.system)] if self.system else []
        return ChatRequest(
            messages=(*turns, Message("user", self.prompt)),
            template_options=self._template_options(),
            sampling=sampling,
            **self._limits(),
        )


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of the last line; durations in nanoseconds."""

    done_reason: str
    total_duration: int
    load_duration: int
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int

    @classmethod
    def of(cls, reason: str, usage: Usage, total_seconds: float) -> "Timing":
        """The engine's figures in the API's form; what is neither prompt nor answer was loading."""
        worked = usage.prompt_seconds + usage.completion_seconds
        return cls(
            done_reason="length" if reason == "length" else "stop",
            total_duration=round(total_seconds * SECOND),
            load_duration=round(max(0.0, total_seconds - worked) * SECOND),
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=round(usage.prompt_seconds * SECOND),
            eval_count=usage.completion_tokens,
            eval_duration=round(usage.completion_seconds * SECOND),
        )


class EmbedCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /api/embed`; of the older `/api/embeddings` with `prompt` instead of `input`."""

    model: str
    input: str | tuple[str, ...] = ()
    prompt: str = ""
    truncate: bool | None = None
    dimensions: int | None = None
    keep_alive: KeepAlive = None

    @property
    def texts(self) -> tuple[str, ...]:
        """What is to be embedded; nothing only loads the model."""
        given = self.input or self.prompt
        return (given,) if isinstance(given, str) and given else tuple(given)

    def request(self) -> EmbedRequest:
        """What the engine is asked: a text that is too long loses its end, unless the call forbids that.

        Raises: InvalidRequest.
        """
        return EmbedRequest(texts=self.texts, truncate=self.truncate is not False)

    def cut(self, vector: list[float]) -> list[float]:
        """`vector` with as many dimensions as were asked for, of length 1 again. Raises: InvalidRequest."""
        if self.dimensions is None:
            return vector
        if not 0 < self.dimensions <= len(vector):
            raise InvalidRequest(f"`dimensions` is {self.dimensions}, outside 1 to {len(vector)}")
        kept = vector[: self.dimensions]
        length = math.hypot(*kept)
        return [value / length for value in kept] if length else kept
