"""Anthropic's calls as types, and what they mean to the engine. Pure.

Unknown fields are ignored, because clients send many (`metadata`, `cache_control`, `service_tier`, …); what
would change the answer and cannot be had is refused with its place.

Source: Anthropic API reference, "Messages" and "Count tokens" (version 2023-06-01).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec

from qwenctl.api.host import KeepAlive
from qwenctl.api.openai_forms import answer_guidance, form_grammar
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, ToolCall
from qwenctl.runtime.sampling import Sampling

Block = dict[str, Any]
Content = str | tuple[Block, ...]

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


class InputMessage(msgspec.Struct, frozen=True):
    """One turn: a text, or blocks."""

    role: Literal["user", "assistant", "system"]
    content: Content


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the client runs. One of another type would run at Anthropic."""

    name: str
    description: str | None = None
    input_schema: dict[str, Any] = {}
    type: str | None = None

    def function(self, place: str) -> dict[str, Any]:
        """The engine's form of it. Raises: InvalidRequest."""
        if self.type not in (None, "custom"):
            raise InvalidRequest(
                f"`{place}.type` is `{self.type[:100]}`, a tool of the service itself", hint="leave it out"
            )
        described = {} if self.description is None else {"description": self.description}
        schema = self.input_schema or {"type": "object", "properties": {}}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": schema}}


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the answer is a call: `auto`, `any`, `tool` (the one of this name) or `none`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Whether the model thinks before it answers; how long is the model's matter."""

    type: str


class OutputFormat(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct, frozen=True):
    """The form of the answer, and how much effort goes into it, which is the model's matter."""

    format: OutputFormat | None = None


class MessagesCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`, and without `max_tokens` of `…/count_tokens`. `keep_alive` is ours."""

    model: str
    messages: tuple[InputMessage, ...]
    max_tokens: int | None = None
    system: Content | None = None
    stop_sequences: tuple[str, ...] | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: tuple[Tool, ...] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    mcp_servers: tuple[Any, ...] | None = None
    keep_alive: KeepAlive = None

    @property
    def choice(self) -> str:
        """`auto`, `none`, `required` or the name of a tool. Raises: InvalidRequest."""
        choice = self.tool_choice or ToolChoice("auto")
        if choice.type != "tool":
            return _CHOICES[choice.type]
        if not choice.name:
            raise InvalidRequest("`tool_choice` names no tool", hint="give its `name`")
        return choice.name

    @property
    def may_call(self) -> bool:
        """Whether the answer may be calls of tools."""
        return bool(self.tools) and self.choice != "none"

    def request(self, suggested: Mapping[str, float] = MappingProxyType({})) -> ChatRequest:
        """What the engine is asked; `suggested` sampling is the model's. Raises: InvalidRequest."""
        if self.mcp_servers:
            raise InvalidRequest("`mcp_servers` is not supported", hint="run the tools in the client")
        if not self.messages:
            raise InvalidRequest("`messages` is empty", hint="send one message at the least")
        if self.messages[-1].role == "assistant":
            raise InvalidRequest(
                f"`messages[{len(self.messages) - 1}]` is the assistant's, which cannot be continued",
                hint="end with a message of the user",
            )
        tools = tuple(tool.function(f"tools[{number}]") for number, tool in enumerate(self.tools or ()))
        return ChatRequest(
            messages=tuple(self._turns()),
            tools=tools,
            tool_choice="none" if self.choice == "none" else "auto",  # a demand is the grammar's matter
            template_options=self._template_options(),
            sampling=self._sampling(suggested, tools),
            max_tokens=self.max_tokens,
            stop=self.stop_sequences or (),
        )

    @property
    def one_call(self) -> bool:
        """Whether the first call ends the answer."""
        return bool(self.tool_choice and self.tool_choice.disable_parallel_tool_use)

    def _turns(self) -> Iterator[Message]:
        if self.system:
            yield Message("system", _text_of(self.system, "system"))
        names: dict[str, str] = {}  # of the tools, by the ids of their calls: a result says the id alone
        for number, message in enumerate(self.messages):
            blocks = _blocks(message.content)
            place = f"messages[{number}].content"
            if message.role == "assistant":
                turn = _assistant(blocks, place)
                names |= {call.id: call.name for call in turn.tool_calls if call.id}
                yield turn
            elif message.role == "system":
                yield Message("system", _text_of(message.content, place))
            else:
                yield from _user(blocks, place, names)

    def _sampling(self, suggested: Mapping[str, float], tools: Sequence[dict[str, Any]]) -> Sampling:
        given: dict[str, Any] = dict(suggested)
        given |= {name: value for name in _SAMPLING if (value := getattr(self, name)) is not None}
        form = self.output_config.format if self.output_config else None
        place = "output_config.format"
        wanted = form_grammar(form.type, form.schema, place) if form else ""
        return Sampling(**given, **answer_guidance(wanted, None, tools, self.choice, place))

    def _template_options(self) -> dict[str, bool | int | float | str]:
        return {} if self.thinking is None else {"enable_thinking": self.thinking.type != "disabled"}


def _blocks(content: Content) -> Sequence[Block]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text_of(content: Content, place: str) -> str:
    """The text of blocks that can be nothing else. Raises: InvalidRequest."""
    if isinstance(content, str):
        return content
    return "\n".join(_text(block, f"{place}[{number}]") for number, block in enumerate(content))


def _assistant(blocks: Sequence[Block], place: str) -> Message:
    texts, thoughts, calls = [], [], []
    for number, block in enumerate(blocks):
        where = f"{place}[{number}]"
        match block.get("type"):
            case "thinking":
                thoughts.append(_field(block, "thinking", str, where))
            case "redacted_thinking":
                pass  # nobody but its maker can read it
            case "tool_use":
                arguments = msgspec.json.encode(_field(block, "input", dict, where)).decode()
                name = _field(block, "name", str, where)
                calls.append(ToolCall(name, arguments, _field(block, "id", str, where)))
            case _:
                texts.append(_text(block, where))
    return Message(
        "assistant",
        "\n".join(texts),
        tool_calls=tuple(calls),
        reasoning_content="\n".join(thoughts) or None,
    )


def _user(blocks: Sequence[Block], place: str, names: Mapping[str, str]) -> Iterator[Message]:
    """The results of calls as turns of their own, and the texts between them."""
    texts: list[str] = []
    for number, block in enumerate(blocks):
        where = f"{place}[{number}]"
        if block.get("type") != "tool_result":
            texts.append(_text(block, where))
            continue
        if texts:
            yield Message("user", "\n".join(texts))
            texts = []
        id = _field(block, "tool_use_id", str, where)
        result = block.get("content") or ""
        if not isinstance(result, str | list):
            raise InvalidRequest(f"`{where}.content` is neither a text nor a list of blocks")
        text = _text_of(result if isinstance(result, str) else tuple(result), f"{where}.content")
        yield Message("tool", text, tool_call_id=id, name=names.get(id))
    if texts or not blocks:
        yield Message("user", "\n".join(texts))


def _text(block: object, place: str) -> str:
    """The text of a block. Raises: InvalidRequest for any other kind, with its place."""
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or kind != "text":
        raise InvalidRequest(
            f"`{place}` is of type `{str(kind)[:100]}`, but only text is understood here",
            hint="leave images, documents and results of the service's own tools out",
        )
    return str(_field(block, "text", str, place))


def _field(block: Block, name: str, kind: type[Any], place: str) -> Any:
    value = block.get(name)
    if not isinstance(value, kind):
        raise InvalidRequest(f"`{place}.{name}` is missing, or of another type")
    return value
