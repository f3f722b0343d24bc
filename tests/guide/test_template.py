"""The guide's chat template is what training used, and has the structure of Qwen2.5's."""

from __future__ import annotations

import json

import jinja2
import pytest
from corpus import Conversations
from rendering import TEMPLATE_PATH, Message, Tool, render, segments

TOOL: Tool = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    },
}
CALLED: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add 1"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}],
    },
    {"role": "tool", "content": "2"},
    {"role": "tool", "content": "3"},
]


def test_a_question_alone_gets_the_default_system_message() -> None:
    """Without a system message the template speaks for the guide."""
    assert render([{"role": "user", "content": "Hi"}], generate=True) == (
        "<|im_start|>system\nYou are guide, the helper of qwenctl.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_tools_calls_and_results() -> None:
    """Tools stand in the system message, calls and results in tags, results of one turn together."""
    text = render(CALLED, [TOOL], generate=True)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert f"<tools>\n{json.dumps(TOOL)}\n</tools>" in text
    assert (
        "<|im_start|>assistant\n<tool_call>\n"
        '{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<tool_response>\n3\n</tool_response>"
        "<|im_end|>\n<|im_start|>assistant\n"
    ) in text


def test_arguments_may_be_text() -> None:
    """OpenAI clients send a call's arguments as a JSON text; it is rendered as it is."""
    as_text = json.loads(json.dumps(CALLED))
    as_text[2]["tool_calls"][0]["function"]["arguments"] = '{"a": 1}'
    assert render(as_text, [TOOL]) == render(CALLED, [TOOL])


@pytest.mark.parametrize("seed", range(4))
def test_segments_are_the_template(seed: int) -> None:
    """What training reads, joined, is what a plain jinja2 renders; every answer ends with its mark."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(TEMPLATE_PATH.read_text(encoding="utf-8"))
    source = Conversations(seed)
    for _ in range(100):
        messages, tools = source.draw()
        parts = segments(messages, tools)
        assert "".join(text for text, _ in parts) == template.render(messages=messages, tools=tools)
        answers = [text for text, spoken in parts if spoken]
        assert len(answers) == sum(message["role"] == "assistant" for message in messages)
        assert all(answer.endswith("<|im_end|>") for answer in answers)
