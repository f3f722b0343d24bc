"""OpenAI's chat completions as types, and what they mean to the engine. Pure.

Fields that we do not know are ignored, because clients send many; fields whose effect we cannot give yet
are refused, because an answer that ignores them would be wrong.

Source: OpenAI API reference, "Chat" and "Models"; `top_k`, `min_p`, `repeat_penalty`, `dry_…`, `xtc_…`,
`mirostat…` and `grammar` as llama.cpp's server names them, `chat_template_kwargs`, `enable_thinking` as vLLM
and Qwen's documents do.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from qwenctl.api.host import KeepAlive
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.answers import call_grammar
from qwenctl.runtime.engine import ChatRequest, Message, TextPart, ToolCall
from qwenctl.runtime.events import FinishReason, Usage
from qwenctl.runtime.sampling import RANDOM_SEED, Sampling


class FunctionCall(msgspec.Struct, frozen=True):
    """Which function the assistant called; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"


class MessageToolCall(msgspec.Struct, frozen=True):
    """A call in a message of the assistant."""

    function: FunctionCall
    id: str | None = None


class ChatMessage(msgspec.Struct, frozen=True):
    """One turn as clients send it."""

    role: str
    content: str | tuple[TextPart, ...] | None = None
    tool_calls: tuple[MessageToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None

    def message(self) -> Message:
        """The engine's form of it."""
        calls = tuple(
            ToolCall(call.function.name, call.function.arguments, call.id) for call in self.tool_calls or ()
        )
        return Message(
            role=self.role,
            content=self.content,
            tool_calls=calls,
            tool_call_id=self.tool_call_id,
            name=self.name,
            reasoning_content=self.reasoning_content,
        )


class StreamOptions(msgspec.Struct, frozen=True):
    """What a stream holds beside the text."""

    include_usage: bool | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True):
    """A JSON Schema that the answer must follow. Its name and description are for people."""

    schema: dict[str, Any] | bool | None = None
    name: str | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The form that the answer must have."""

    type: str
    json_schema: JsonSchemaFormat | None = None

    def grammar(self) -> str:
        """The grammar that enforces it; empty for plain text. Raises: InvalidRequest."""
        from qwenctl.runtime.schema import ANY_OBJECT, grammar_of

        match self.type:
            case "text":
                return ""
            case "json_object":
                return ANY_OBJECT
            case "json_schema":
                if self.json_schema is None or self.json_schema.schema is None:
                    raise InvalidRequest("`response_format.json_schema.schema` is missing")
                return grammar_of(self.json_schema.schema)
        raise InvalidRequest(
            f"`response_format.type` cannot be `{self.type[:100]}`",
            hint="it is text, json_object or json_schema",
        )


class ChatCompletionCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`; null means the same as absent everywhere."""

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    logit_bias: dict[str, float] | None = None
    grammar: str | None = None
    repeat_last_n: int | None = None
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
    keep_alive: KeepAlive = None
    chat_template_kwargs: dict[str, bool | int | float | str] | None = None
    enable_thinking: bool | None = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may be calls of tools."""
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def request(self, suggested: Mapping[str, float] = MappingProxyType({})) -> ChatRequest:
        """What the engine is asked; `suggested` sampling is the model's, for what the call leaves open.

        Raises: InvalidRequest for what we cannot do, or values out of range.
        """
        self._refuse_what_is_missing()
        options = dict(self.chat_template_kwargs or {})
        if self.enable_thinking is not None:
            options["enable_thinking"] = self.enable_thinking
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return ChatRequest(
            messages=tuple(message.message() for message in self.messages),
            tools=self.tools or (),
            tool_choice="none" if self.tool_choice == "none" else "auto",  # a demand is the grammar's matter
            template_options=options,
            sampling=self._sampling(suggested),
            max_tokens=limit,
            stop=stop,
        )

    def _sampling(self, suggested: Mapping[str, float]) -> Sampling:
        values = {ours: getattr(self, name) for name, ours in _SAMPLING_FIELDS.items()}
        given: dict[str, Any] = dict(suggested) | {
            name: value for name, value in values.items() if value is not None
        }
        if self.seed is not None:
            # The API allows any integer; llama.cpp has 32 bits, and the last value means "random" to it.
            given["seed"] = self.seed % RANDOM_SEED
        if self.logit_bias:
            given["logit_bias"] = tuple((_token(key), bias) for key, bias in self.logit_bias.items())
        return Sampling(**given, grammar=self._grammar())

    def _grammar(self) -> str:
        choice = _tool_choice(self.tool_choice)
        if choice not in ("auto", "none"):
            if self.grammar or (self.response_format is not None and self.response_format.grammar()):
                raise InvalidRequest("`tool_choice` and another form of the answer exclude each other")
            return call_grammar(self.tools or (), None if choice == "required" else choice)
        asked = self.response_format.grammar() if self.response_format is not None else ""
        if asked and self.grammar:
            raise InvalidRequest("`response_format` and `grammar` exclude each other", hint="leave one out")
        if asked and self.tools and self.tool_choice != "none":
            raise InvalidRequest(
                "`response_format` leaves no room for a call of `tools`", hint='send `tool_choice: "none"`'
            )
        return asked or self.grammar or ""

    def _refuse_what_is_missing(self) -> None:
        refused = {
            "n": self.n not in (None, 1),
            "logprobs": bool(self.logprobs),
        }
        for name, used in refused.items():
            if used:
                raise InvalidRequest(f"`{name}` is not supported yet", hint="leave it out")
        if not self.messages:
            raise InvalidRequest("`messages` is empty", hint="send one message at the least")


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


def _tool_choice(value: str | dict[str, Any] | None) -> str:
    """`auto`, `none`, `required`, or the name of a function."""
    if isinstance(value, dict):
        function = value.get("function")
        return str(function.get("name")) if isinstance(function, dict) else str(value.get("type"))
    return value or "auto"


class PromptDetails(msgspec.Struct, frozen=True):
    """Of the prompt's tokens, those that were in the KV cache already."""

    cached_tokens: int


class UsageBlock(msgspec.Struct, frozen=True):
    """The token counts of one answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails

    @classmethod
    def of(cls, usage: Usage) -> "UsageBlock":
        """The engine's figures, in the API's form."""
        total = usage.prompt_tokens + usage.completion_tokens
        details = PromptDetails(usage.cached_tokens)
        return cls(usage.prompt_tokens, usage.completion_tokens, total, details)


class CalledFunction(msgspec.Struct, frozen=True):
    """The function of a call in an answer; `arguments` is JSON text."""

    name: str
    arguments: str


class AnswerToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call in an answer. In a stream `index` counts the calls of the message."""

    id: str
    type: str = "function"
    function: CalledFunction
    index: int | msgspec.UnsetType = msgspec.UNSET


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    tool_calls: tuple[AnswerToolCall, ...] | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """The one choice of a chunk."""

    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream. The last one has no choices but `usage`, if the client asked for it."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    object: str = "chat.completion.chunk"
    usage: UsageBlock | msgspec.UnsetType = msgspec.UNSET


class AnswerMessage(msgspec.Struct, frozen=True):
    """The whole answer; no content where it is calls alone."""

    content: str | None
    role: str = "assistant"
    tool_calls: tuple[AnswerToolCall, ...] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True):
    """The one choice of an answer."""

    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """An answer in one piece."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: UsageBlock
    object: str = "chat.completion"


class ModelObject(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can be asked for."""

    id: str
    created: int
    object: str = "model"
    owned_by: str = "qwenctl"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    data: tuple[ModelObject, ...]
    object: str = "list"


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `hint` is ours; clients of the API do not look for it, but people who print it do."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str | msgspec.UnsetType = msgspec.UNSET


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error, and the last event of a stream that failed."""

    error: ErrorDetail


def finish_reason(reason: FinishReason, called: bool = False) -> str:
    """The API's word; it has none for a request that was cancelled."""
    if reason == "length":
        return "length"
    return "tool_calls" if called else "stop"
