"""OpenAI's responses as types, and what they mean to the engine. Pure.

Source: OpenAI API reference, "Responses"; `truncation: auto` leaves out the oldest part of a conversation
that is too long.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from qwenctl.api.openai_forms import (
    Content,
    ContentPart,
    ToolChoice,
    answer_guidance,
    chosen_tool,
    content_of,
    form_grammar,
    role_of,
    thinking,
)
from qwenctl.api.sampling_wire import SamplingFields
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, TextPart, ToolCall
from qwenctl.runtime.sampling import Guidance

_LOGPROBS: Final = "message.output_text.logprobs"


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a conversation: a message, a call of a function, its output, or reasoning."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: Content = None
    status: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: Content = None
    summary: tuple[ContentPart, ...] | None = None


class TextFormat(msgspec.Struct, frozen=True):
    """The form that the answer must have."""

    type: str
    name: str | None = None
    schema: dict[str, Any] | bool | None = None


class TextOptions(msgspec.Struct, frozen=True):
    """How the text of the answer is to be."""

    format: TextFormat | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    """How much the model thinks."""

    effort: str | None = None


class ResponsesCall(SamplingFields, frozen=True, kw_only=True):
    """The body of `POST /v1/responses`."""

    model: str
    input: str | tuple[Item, ...] = ()
    instructions: str | None = None
    stream: bool | None = None
    store: bool | None = None
    previous_response_id: str | None = None
    max_output_tokens: int | None = None
    tools: tuple[dict[str, Any], ...] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    truncation: Literal["auto", "disabled"] | None = None
    include: tuple[str, ...] | None = None
    top_logprobs: int | None = None
    metadata: dict[str, Any] | None = None
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    chat_template_kwargs: dict[str, bool | int | float | str] | None = None

    @property
    def may_call(self) -> bool:
        """Whether the answer may be calls of tools."""
        return bool(self.tools) and chosen_tool(self.tool_choice) != "none"

    @property
    def with_logprobs(self) -> bool:
        """Whether the text has the likelihoods of its tokens."""
        return self.top_logprobs is not None or _LOGPROBS in (self.include or ())

    @property
    def items(self) -> tuple[Item, ...]:
        """What the client says in this call."""
        if isinstance(self.input, str):
            return (Item(type="message", role="user", content=self.input),)
        return self.input

    def request(
        self, before: Sequence[Item] = (), suggested: Mapping[str, float] = MappingProxyType({})
    ) -> ChatRequest:
        """What the engine is asked, after the conversation `before`; `suggested` sampling is the model's.

        Raises: InvalidRequest for what we cannot do, or values out of range.
        """
        for name in ("background", "conversation", "prompt"):
            if getattr(self, name):
                raise InvalidRequest(f"`{name}` is not supported", hint="leave it out")
        messages = [*messages_of(before, "previous_response_id"), *messages_of(self.items, "input")]
        if not messages:
            raise InvalidRequest("`input` is empty", hint="send a text, or one item at the least")
        if self.instructions:
            messages.insert(0, Message("system", self.instructions))
        choice = chosen_tool(self.tool_choice)
        tools = tuple(_tool(tool, f"tools[{number}]") for number, tool in enumerate(self.tools or ()))
        effort = self.reasoning.effort if self.reasoning is not None else None
        return ChatRequest(
            messages=tuple(messages),
            tools=tools,
            tool_choice="none" if choice == "none" else "auto",  # a demand is the grammar's matter
            template_options=thinking(effort) | dict(self.chat_template_kwargs or {}),
            sampling=self.sampling(suggested, self._guidance(tools, choice)),
            max_tokens=self.max_output_tokens,
            stop=self.stops,
            top_logprobs=(self.top_logprobs or 0) if self.with_logprobs else None,
            overflow=self.overflow or ("truncate" if self.truncation == "auto" else "refuse"),
        )

    def _guidance(self, tools: tuple[dict[str, Any], ...], choice: str) -> Guidance:
        wanted = self.text.format if self.text is not None else None
        form = form_grammar(wanted.type, wanted.schema, "text.format") if wanted is not None else ""
        return answer_guidance(form, self.grammar, tools, choice, "text.format")

    def echoed(self, request: ChatRequest) -> dict[str, Any]:
        """What a response repeats of the call, with the values that were used."""
        effort = self.reasoning.effort if self.reasoning is not None else None
        form = self.text.format if self.text is not None else None
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "model": self.model,
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "reasoning": {"effort": effort, "summary": None},
            "store": self.store is not False,
            "temperature": request.sampling.temperature,
            "text": {"format": _format(form)},
            "tool_choice": self.tool_choice or "auto",
            "tools": list(self.tools or ()),
            "top_logprobs": self.top_logprobs or 0,
            "top_p": request.sampling.top_p,
            "truncation": "disabled" if request.overflow == "refuse" else "auto",
        }


def messages_of(items: Sequence[Item], place: str) -> list[Message]:
    """The turns that `items` make: an assistant's reasoning, text and calls in a row are one turn.

    Raises: InvalidRequest for items of other kinds, or contents that are no text, with their place.
    """
    messages: list[Message] = []
    turn = _Turn(messages)
    for number, item in enumerate(items):
        here = f"{place}[{number}]"
        kind = item.type or "message"
        if kind == "reasoning":
            turn.before_answer().reasoning += _reasoning(item, here)
        elif kind == "function_call":
            turn.calls.append(ToolCall(_given(item.name, here, "name"), item.arguments or "{}", item.call_id))
        elif kind == "message" and item.role == "assistant":
            turn.before_answer().content = content_of(item.content, f"{here}.content")
        elif kind in ("message", "function_call_output"):
            turn.end()
            messages.append(_other(item, kind, here))
        else:
            hint = "it is message, function_call, function_call_output or reasoning"
            raise InvalidRequest(f"`{here}.type` cannot be `{kind[:100]}`", hint=hint)
    turn.end()
    return messages


class _Turn:
    """A turn of the assistant under construction, which goes among `messages` when another begins."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self._begin()

    def _begin(self) -> None:
        self.reasoning = ""
        self.content: str | tuple[TextPart, ...] | None = None
        self.calls: list[ToolCall] = []

    def before_answer(self) -> "_Turn":
        """Itself for reasoning or text, which no text or call of the same turn precedes."""
        if self.calls or self.content is not None:
            self.end()
        return self

    def end(self) -> None:
        """No more of this turn."""
        if self.reasoning or self.calls or self.content is not None:
            calls, reasoning = tuple(self.calls), self.reasoning or None
            self._messages.append(Message("assistant", self.content, calls, reasoning_content=reasoning))
        self._begin()


def _other(item: Item, kind: str, place: str) -> Message:
    if kind == "message":
        role = role_of(_given(item.role, place, "role"))
        return Message(role, content_of(item.content, f"{place}.content") or "")
    call = _given(item.call_id, place, "call_id")
    return Message("tool", content_of(item.output, f"{place}.output") or "", tool_call_id=call)


def _reasoning(item: Item, place: str) -> str:
    parts = item.content if isinstance(item.content, tuple) and item.content else item.summary or ()
    return "".join(part.read(f"{place}.content[{number}]") for number, part in enumerate(parts))


def _given(value: str | None, place: str, name: str) -> str:
    if value is None:
        raise InvalidRequest(f"`{place}.{name}` is missing")
    return value


def _format(form: TextFormat | None) -> dict[str, Any]:
    if form is None or form.schema is None:
        return {"type": form.type if form else "text"}
    return {"type": form.type, "name": form.name or "", "schema": form.schema}


def _tool(tool: dict[str, Any], place: str) -> dict[str, Any]:
    """A function in the form of chat completions, which is what templates print."""
    if tool.get("type") != "function":
        kind = str(tool.get("type"))[:100]
        hint = "offer functions; tools that run at OpenAI do not exist here"
        raise InvalidRequest(f"`{place}.type` cannot be `{kind}`", hint=hint)
    names = ("name", "description", "parameters")
    function = {name: tool[name] for name in names if tool.get(name) is not None}
    return {"type": "function", "function": function}
