"""The guide's chat template applied to conversations, as training, evaluation and tests see it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = dict[str, Any]
Tool = dict[str, Any]

TEMPLATE_PATH = Path(__file__).parent / "chat_template.jinja"
ANSWER_START = "<|im_start|>assistant\n"
ANSWER_END = "<|im_end|>"


def _json(value: object) -> str:
    """JSON as transformers' chat templates print it: no sorting, no HTML escapes."""
    return json.dumps(value, ensure_ascii=False)


def _template() -> Any:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _json
    return environment.from_string(TEMPLATE_PATH.read_text(encoding="utf-8"))


_TEMPLATE = _template()


def render(messages: list[Message], tools: list[Tool] | None = None, *, generate: bool = False) -> str:
    """Return the text of a conversation; `generate` opens the assistant's next turn."""
    text: str = _TEMPLATE.render(messages=messages, tools=tools, add_generation_prompt=generate)
    return text


def segments(messages: list[Message], tools: list[Tool] | None = None) -> list[tuple[str, bool]]:
    """Split the rendered conversation into (text, is an answer); joined they are `render(...)`.

    An answer runs from behind `<|im_start|>assistant` and a line feed to `<|im_end|>`, inclusive:
    what the model must produce, and the only text that the loss counts in full.
    """
    text = render(messages, tools)
    parts: list[tuple[str, bool]] = []
    position = 0
    while (found := text.find(ANSWER_START, position)) >= 0:
        start = found + len(ANSWER_START)
        end = text.index(ANSWER_END, start) + len(ANSWER_END)
        parts += [(text[position:start], False), (text[start:end], True)]
        position = end
    if position < len(text):
        parts.append((text[position:], False))
    return parts
