"""OpenAI's chat completions as types, and what they mean to the engine. Pure.

Fields that we do not know are ignored, because clients send many; fields whose effect we cannot give
are refused, because an answer that ignores them would be wrong.

Source: OpenAI API reference, "Chat"; `chat_template_kwargs` and `enable_thinking` as vLLM and Qwen's
documents name them, `reasoning_format` as llama.cpp's server does.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from qwenctl.api.openai_forms import (
    Content,
    ToolChoice,
    answer_guidance,
    chosen_tool,
    content_of,
    form_grammar,
    role_of,
    thinking,
)
from qwenctl.api.openai_usage import UsageBlock
from qwenctl.api.sampling_wire import SamplingFields, choices
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, ToolCall
from qwenctl.runtime.events import FinishReason
from qwenctl.runtime.sampling import Guidance


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
    content: Content = None
    tool_calls: tuple[MessageToolCall, ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    reasoning_content: str | None = None

    def message(self, place: str) -> Message:
        """The engine's form of it. Raises: InvalidRequest for contents that are no text."""
        calls = tuple(
            ToolCall(call.function.name, call.function.arguments, call.id) for call in self.tool_calls or ()
        )
        return Message(
            role=role_of(self.role),
            content=content_of(self.content, f"{place}.content"),
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
        schema = None if self.json_schema is None else self.json_schema.schema
        return form_grammar(self.type, schema, "response_format")


class ChatCompletionCall(SamplingFields, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`."""

    model: str
    messages: tuple[ChatMessage, ...]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    chat_template_kwargs: dict[str, bool | int | float | str] | None = None
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    reasoning_format: Literal["none", "auto"] | None = None
    modalities: tuple[str, ...] | None = None
    audio: Any = None
    functions: Any = None
    function_call: Any = None
    web_search_options: Any = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may be calls of tools."""
        return bool(self.tools) and chosen_tool(self.tool_choice) != "none"

    @property
    def splits_reasoning(self) -> bool:
        """Whether reasoning is a field of its own; else it stays in the content, with its tags."""
        return self.reasoning_format != "none"

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        """How many answers it asks for. Raises: InvalidRequest."""
        return choices(self.n)

    def request(self, suggested: Mapping[str, float] = MappingProxyType({})) -> ChatRequest:
        """What the engine is asked; `suggested` sampling is the model's, for what the call leaves open.

        Raises: InvalidRequest for what we cannot do, or values out of range.
        """
        self._refuse()
        options = thinking(self.reasoning_effort) | dict(self.chat_template_kwargs or {})
        if self.enable_thinking is not None:
            options["enable_thinking"] = self.enable_thinking
        choice = chosen_tool(self.tool_choice)
        return ChatRequest(
            messages=tuple(one.message(f"messages[{number}]") for number, one in enumerate(self.messages)),
            tools=self.tools or (),
            tool_choice="none" if choice == "none" else "auto",  # a demand is the grammar's matter
            template_options=options,
            sampling=self.sampling(suggested, self._guidance(choice)),
            max_tokens=self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens,
            stop=self.stops,
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            overflow=self.overflow or "refuse",
        )

    def _guidance(self, choice: str) -> Guidance:
        form = self.response_format.grammar() if self.response_format is not None else ""
        return answer_guidance(form, self.grammar, self.tools or (), choice, "response_format")

    def _refuse(self) -> None:
        """Raises: InvalidRequest for what we cannot do."""
        if not self.messages:
            raise InvalidRequest("`messages` is empty", hint="send one message at the least")
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequest("`top_logprobs` needs `logprobs`", hint="send `logprobs: true`, too")
        if any(kind != "text" for kind in self.modalities or ()):
            raise InvalidRequest("`modalities` can be text only")
        for name, instead in _REFUSED.items():
            if getattr(self, name) is not None:
                raise InvalidRequest(f"`{name}` is not supported", hint=instead)


_REFUSED: Final = {
    "audio": "answers are text",
    "functions": "send `tools`, which replaced it",
    "function_call": "send `tool_choice`, which replaced it",
    "web_search_options": "offer a search of your own among `tools`",
}
"""Fields whose effect we cannot give, each with what to do about it."""


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


class Logprobs(msgspec.Struct, frozen=True):
    """The tokens of an answer, each with its likelihood; see `openai_forms.likelihoods`."""

    content: list[dict[str, Any]]


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: tuple[AnswerToolCall, ...] | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """The choice that a chunk adds to."""

    delta: Delta
    finish_reason: str | None = None
    index: int = 0
    logprobs: Logprobs | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream. The last one has no choices but `usage`, if the client asked for it."""

    id: str
    created: int
    model: str
    choices: tuple[ChunkChoice, ...]
    object: str = "chat.completion.chunk"
    usage: UsageBlock | msgspec.UnsetType = msgspec.UNSET


class AnswerMessage(msgspec.Struct, frozen=True):
    """A whole answer; no content where it is calls alone."""

    content: str | None
    role: str = "assistant"
    reasoning_content: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: tuple[AnswerToolCall, ...] | msgspec.UnsetType = msgspec.UNSET


class Choice(msgspec.Struct, frozen=True):
    """One of the answers."""

    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: Logprobs | None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """All of them in one piece."""

    id: str
    created: int
    model: str
    choices: tuple[Choice, ...]
    usage: UsageBlock
    object: str = "chat.completion"


def finish_reason(reason: FinishReason, called: bool = False) -> str:
    """The API's word; it has none for a request that was cancelled."""
    if reason == "length":
        return "length"
    return "tool_calls" if called else "stop"
