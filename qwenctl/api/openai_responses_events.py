"""A response of OpenAI's API of that name under construction: its events, and what it is at any time. Pure.

    created, in_progress
    for each item:  output_item.added
                    content_part.added, …text.delta…, …text.done, content_part.done     reasoning and messages
                    function_call_arguments.delta, .done                                calls
                    output_item.done
    completed | incomplete | failed

Source: OpenAI API reference, "Responses", streaming events.
"""

import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from qwenctl.api.choices import Said
from qwenctl.api.openai_forms import likelihoods
from qwenctl.errors import InvalidRequest, PromptTooLong, QwenctlError
from qwenctl.runtime.answers import Call, Content, Reasoning
from qwenctl.runtime.events import Finished, TokenLogprob, Usage

Json = dict[str, Any]


class ResponseWriter:
    """Turns the steps of one answer into events. `head` are the fields of the response that never change."""

    def __init__(self, head: Json, created_seconds: int) -> None:
        self.id = f"resp_{secrets.token_hex(24)}"
        self.output: list[Json] = []
        self._head = head
        self._created = created_seconds
        self._number = 0
        self._open: _Text | None = None
        self._reasoning_tokens = 0
        self._end: Json = {"status": "in_progress", "error": None, "incomplete_details": None, "usage": None}

    @property
    def response(self) -> Json:
        """The response as it is now."""
        first = {"id": self.id, "object": "response", "created_at": self._created}
        return first | self._end | {"output": list(self.output)} | self._head

    @property
    def finished(self) -> bool:
        """Whether nothing comes any more."""
        return bool(self._end["status"] != "in_progress")

    def begin(self) -> list[Json]:
        """The events before the first step."""
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=self.response) for kind in kinds]

    def add(self, said: Said) -> list[Json]:
        """The events of the next step."""
        match said.part:
            case Content(text):
                return self._text(_MESSAGE, text, said.logprobs)
            case Reasoning(text):
                self._reasoning_tokens += said.tokens
                return self._text(_REASONING, text, ())
            case Call(name, arguments):
                return self._close("completed") + self._call(name, arguments)
            case Finished():
                return self._finish(said.part, said.logprobs)

    def fail(self, error: QwenctlError) -> list[Json]:
        """The events of a failure under way."""
        code = "invalid_prompt" if isinstance(error, InvalidRequest | PromptTooLong) else "server_error"
        message = f"{error.message}; {error.hint}" if error.hint else error.message
        events = self._close("incomplete")
        self._end |= {"status": "failed", "error": {"code": code, "message": message}}
        return [*events, self._event("response.failed", response=self.response)]

    def _finish(self, end: Finished, logprobs: tuple[TokenLogprob, ...]) -> list[Json]:
        cut = end.reason == "length"
        status = "incomplete" if cut else "completed"
        events = [] if self._open or self.output else self._text(_MESSAGE, "", ())  # clients expect a message
        if self._open is not None:
            self._open.logprobs += logprobs
        events += self._close(status)
        self._end |= {"status": status, "usage": self._usage(end.usage)}
        if cut:
            self._end["incomplete_details"] = {"reason": "max_output_tokens"}
        return [*events, self._event(f"response.{status}", response=self.response)]

    def _usage(self, usage: Usage) -> Json:
        return {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": self._reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }

    def _text(self, kind: "_Kind", text: str, logprobs: tuple[TokenLogprob, ...]) -> list[Json]:
        """The events of a text that goes on, or that begins a new item."""
        events: list[Json] = []
        if self._open is None or self._open.kind is not kind:
            events += self._close("completed")
            self._open = item = _Text(kind, len(self.output))
            events.append(
                self._event(
                    "response.output_item.added", output_index=item.index, item=item.item("in_progress", [])
                )
            )
            events.append(self._event("response.content_part.added", **item.place(), part=kind.part("", [])))
        item = self._open
        item.pieces.append(text)
        item.logprobs += logprobs
        more = {"logprobs": likelihoods(logprobs)} if kind.rated else {}
        events.append(self._event(f"response.{kind.part_type}.delta", **item.place(), delta=text, **more))
        return events

    def _close(self, status: str) -> list[Json]:
        """The events that end the open text, if there is one."""
        if self._open is None:
            return []
        item, self._open = self._open, None
        kind, text, rated = item.kind, "".join(item.pieces), likelihoods(item.logprobs)
        part = kind.part(text, rated)
        whole = item.item(status, [part])
        self.output.append(whole)
        more = {"logprobs": rated} if kind.rated else {}
        return [
            self._event(f"response.{kind.part_type}.done", **item.place(), text=text, **more),
            self._event("response.content_part.done", **item.place(), part=part),
            self._event("response.output_item.done", output_index=item.index, item=whole),
        ]

    def _call(self, name: str, arguments: str) -> list[Json]:
        item = {
            "id": f"fc_{secrets.token_hex(24)}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{secrets.token_hex(12)}",
            "name": name,
            "arguments": arguments,
        }
        index = len(self.output)
        where = {"item_id": item["id"], "output_index": index}
        begun = item | {"status": "in_progress", "arguments": ""}
        self.output.append(item)
        arguments_of = "response.function_call_arguments"
        return [
            self._event("response.output_item.added", output_index=index, item=begun),
            self._event(f"{arguments_of}.delta", **where, delta=arguments),
            self._event(f"{arguments_of}.done", **where, name=name, arguments=arguments),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _event(self, kind: str, **fields: Any) -> Json:
        event = {"type": kind, "sequence_number": self._number} | fields
        self._number += 1
        return event


@dataclass(frozen=True, slots=True)
class _Kind:
    """What messages and reasoning are called: the item, its part, and whether its tokens are rated."""

    item_type: str
    prefix: str
    part_type: str
    rated: bool

    def part(self, text: str, rated: list[Json]) -> Json:
        """The one part of an item."""
        part: Json = {"type": self.part_type, "text": text}
        return part | {"annotations": [], "logprobs": rated} if self.rated else part


_MESSAGE: Final = _Kind("message", "msg", "output_text", True)
_REASONING: Final = _Kind("reasoning", "rs", "reasoning_text", False)


@dataclass(slots=True)
class _Text:
    """An item of text that is being made."""

    kind: _Kind
    index: int
    id: str = ""
    pieces: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = f"{self.kind.prefix}_{secrets.token_hex(24)}"

    def place(self) -> Json:
        """Where its part is."""
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    def item(self, status: str, content: list[Json]) -> Json:
        """The item with this much of it."""
        more: Json = {"role": "assistant"} if self.kind is _MESSAGE else {"summary": []}
        return {"id": self.id, "type": self.kind.item_type, "status": status, "content": content} | more
