"""Chat templates: the Jinja text inside a GGUF file, rendered the way llama.cpp and transformers render it.

The text comes with the model, from strangers, so it runs in Jinja's sandbox with bounds on output and time.
Source: transformers `utils/chat_template_utils.py`; llama.cpp `common/chat.cpp`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, ToolCall

_MAX_REPEATED: Final = 1024 * 1024

# What a template can raise: Jinja's own errors, and Python's from the operators and filters it uses.
_RENDER_ERRORS: Final = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a template may write, and for how long it may run."""

    characters: int = 64 * 1024 * 1024
    seconds: float = 5.0


class ChatTemplate:
    """A compiled template of one model; rendering is safe from several threads at once."""

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        now: Callable[[], datetime] = datetime.now,
        bounds: Bounds | None = None,
    ) -> None:
        """`bos` and `eos` are the texts of those tokens.

        Raises: InvalidRequest when `source` does not compile.
        """
        self._bounds = bounds or Bounds()
        self._specials = {"bos_token": bos, "eos_token": eos}
        environment = _Sandbox(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except (TemplateError, RecursionError) as error:
            raise InvalidRequest(
                f"the chat template of the model does not compile: {error}",
                hint="send a plain completion, or give the model another template",
            ) from error
        self._takes_objects = self._prints_arguments_as_json()

    def render(self, request: ChatRequest) -> str:
        """The prompt for the assistant's next turn.

        Raises: InvalidRequest when the template refuses the messages (some roles, some orders) or exceeds
        its bounds.
        """
        messages = [self._message(message) for message in request.messages]
        tools = list(request.tools) if request.tools and request.tool_choice != "none" else None
        return self._render(messages, tools, request.template_options)

    def _render(self, messages: object, tools: object, options: Mapping[str, object]) -> str:
        variables = {**self._specials, "add_generation_prompt": True, **options}
        watch = _Watch(self._bounds)
        pieces: list[str] = []
        try:
            for piece in self._template.generate(variables, messages=messages, tools=tools, _watch=watch):
                pieces.append(piece)
                watch.check(len(piece))
        except RecursionError as error:
            raise InvalidRequest("the chat template of the model recurses without end") from error
        except _RENDER_ERRORS as error:
            raise InvalidRequest(f"the chat template of the model refused the messages: {error}") from error
        return "".join(pieces)

    def _message(self, message: Message) -> dict[str, object]:
        """`message` as templates know it; what is not set is absent, for templates ask `is defined`."""
        content = message.content or ""
        if not isinstance(content, str):
            content = "\n".join(part.text for part in content)
        fields: dict[str, object] = {"role": message.role, "content": content}
        if message.tool_calls:
            fields["tool_calls"] = [self._call(call) for call in message.tool_calls]
        optional = {
            "tool_call_id": message.tool_call_id,
            "name": message.name,
            "reasoning_content": message.reasoning_content,
        }
        return fields | {name: value for name, value in optional.items() if value is not None}

    def _call(self, call: ToolCall) -> dict[str, object]:
        arguments: object = call.arguments
        if self._takes_objects:
            arguments = _parse_arguments(call)
        function = {"name": call.name, "arguments": arguments}
        identity = {} if call.id is None else {"id": call.id}
        return {**identity, "type": "function", "function": function}

    def _prints_arguments_as_json(self) -> bool:
        """Whether the template wants the arguments of calls as objects (Qwen2.5) or as their JSON text.

        It is tried out: only a template that serializes them itself prints the object as JSON.
        Source: the same probe in llama.cpp, common/jinja/caps.cpp.
        """
        function = {"name": "probe", "arguments": {"needle": "thread"}}
        call = {"id": "call00000", "type": "function", "function": function}
        messages = [
            {"role": "user", "content": "probe"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]
        try:
            text = self._render(messages, None, {})
        except InvalidRequest:
            return False
        return '"needle": "thread"' in text or '"needle":"thread"' in text


class _Watch:
    """Counts what one rendering writes, and looks at the clock."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._written = 0
        self._deadline = monotonic() + bounds.seconds

    def check(self, characters: int) -> None:
        """`characters` more were written. Raises: TemplateError beyond the bounds."""
        self._written += characters
        if self._written > self._bounds.characters:
            raise TemplateError(f"it wrote more than {self._bounds.characters} characters")
        if monotonic() > self._deadline:
            raise TemplateError(f"it took more than {self._bounds.seconds:g} seconds")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox that also looks at the clock, and at how much `*` and `**` would make."""

    intercepted_binops = frozenset({"*", "**"})

    # Every call in a template comes through here, `range()` of an inner loop too, so no loop runs
    # for long without being seen: the sandbox bounds one range to 100,000 rounds.
    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        watch = context.get("_watch")
        if isinstance(watch, _Watch):
            watch.check(0)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) for side in (left, right) if isinstance(side, str | list | tuple)]
        counts = [side for side in (left, right) if isinstance(side, int)]
        if sizes and counts and sizes[0] * counts[0] > _MAX_REPEATED:
            raise TemplateError("it repeats a text too often")
        if operator == "**" and len(counts) == 2 and left.bit_length() * right > _MAX_REPEATED:
            raise TemplateError("it computes too large a number")
        return super().call_binop(context, operator, left, right)


class _GenerationBlock(Extension):
    """`{% generation %}…{% endgeneration %}`: marks the assistant's tokens for training, no more."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _parse_arguments(call: ToolCall) -> dict[str, object]:
    try:
        arguments = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"the arguments of the call to `{call.name}` are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"the arguments of the call to `{call.name}` are not a JSON object")
    return arguments


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own `tojson` escapes HTML and sorts keys, which is not what the models saw in training."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))
