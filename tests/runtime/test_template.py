from datetime import datetime

import pytest

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import ChatRequest, Message, TextPart, ToolCall
from qwenctl.runtime.template import Bounds, ChatTemplate

NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}"
EACH_CALL = "{% for m in messages %}{% for c in m.tool_calls %}"
END_EACH = "{% endfor %}{% endfor %}"
SERIALIZED = f"{EACH_CALL}{{{{ c.function.arguments | tojson }}}}{END_EACH}"
JOINED = f"{EACH_CALL}{{{{ 'A' + c.function.arguments }}}}{END_EACH}"
USER = Message("user", "hi")
CALL = Message("assistant", None, (ToolCall("f", '{"z": 1, "a": "<é>"}', id="c1"),))


def render(source: str, *messages: Message, **fields: object) -> str:
    """`source` rendered over `messages`."""
    request = ChatRequest(messages=messages or (USER,), **fields)  # type: ignore[arg-type]
    return ChatTemplate(source, bos="<s>", eos="</s>", now=lambda: datetime(2026, 3, 1)).render(request)


def test_whitespace_around_blocks_goes() -> None:
    """`trim_blocks` and `lstrip_blocks` are on, as the templates expect."""
    assert render("  {% if true %}\n  x\n  {% endif %}\ny") == "  x\ny"


def test_the_variables_of_templates() -> None:
    """Special tokens, the generation prompt, the date, and the request's own options."""
    source = "{{ bos_token }}{{ eos_token }} {{ add_generation_prompt }} {{ strftime_now('%Y-%m') }}"
    source += " {{ enable_thinking }}"
    text = render(source, template_options={"enable_thinking": False})
    assert text == "<s></s> True 2026-03 False"


def test_tools_keep_their_key_order_and_letters() -> None:
    """`tojson` escapes no HTML, no letters, and sorts nothing."""
    tools = ({"type": "function", "function": {"name": "é<b>", "description": "'"}},)
    source = "{{ tools | tojson }}"
    assert render(source, tools=tools) == (
        '[{"type": "function", "function": {"name": "é<b>", "description": "\'"}}]'
    )
    assert render("{{ tools is none }}", tools=tools, tool_choice="none") == "True"


def test_arguments_become_objects_where_the_template_serializes_them() -> None:
    """Qwen2.5's template writes `arguments | tojson`."""
    assert render(SERIALIZED, USER, CALL) == '{"z": 1, "a": "<é>"}'


def test_arguments_stay_text_where_the_template_prints_them() -> None:
    """DeepSeek's template joins them to other text."""
    assert render(JOINED, USER, CALL) == 'A{"z": 1, "a": "<é>"}'


@pytest.mark.parametrize("arguments", ["{", "[1]", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    """The message names the function."""
    with pytest.raises(InvalidRequest, match="`f`"):
        render(SERIALIZED, Message("assistant", None, (ToolCall("f", arguments),)))


def test_messages_as_templates_know_them() -> None:
    """Parts are joined by lines, content is never none, and what is not set is not defined."""
    source = (
        "{% for m in messages %}{{ m.role }}={{ m.content }};"
        "{% if m.tool_call_id is defined %}{{ m.tool_call_id }}{% endif %}"
        "{% if m.tool_calls is defined %}{{ m.tool_calls[0].id }}{% endif %}|{% endfor %}"
    )
    parts = Message("user", (TextPart("a"), TextPart("b")))
    result = Message("tool", "42", tool_call_id="c1")
    assert render(source, parts, CALL, result) == "user=a\nb;|assistant=;c1|tool=42;c1|"


def test_extensions_of_real_templates() -> None:
    """`break` in loops, and the training mark around the assistant's words."""
    source = "{% for i in [1, 2] %}{% generation %}{{ i }}{% endgeneration %}{% break %}{% endfor %}"
    assert render(source) == "1"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ messages[0].content + 1 }}", "concatenate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'x' * 100000000 }}", "too often"),
        ("{{ 9 ** 99999999 }}", "too large"),
        ("{{ 1 / 0 }}", "division"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recurses"),
        ("{% if %}", "compile"),
    ],
)
def test_what_a_template_may_not_do(source: str, reason: str) -> None:
    """Each ends as `InvalidRequest` that gives the reason."""
    with pytest.raises(InvalidRequest, match=reason):
        render(source)


@pytest.mark.parametrize(
    ("source", "bounds", "reason"),
    [
        (f"{NESTED}{{% endfor %}}{{% endfor %}}", Bounds(seconds=0.05), "0.05 seconds"),
        ("{% for i in range(99999) %}0123456789{% endfor %}", Bounds(characters=1000), "1000 characters"),
    ],
)
def test_endless_work_is_cut_short(source: str, bounds: Bounds, reason: str) -> None:
    """Nested loops without output end at the time limit, a flood of output at its size."""
    with pytest.raises(InvalidRequest, match=reason):
        ChatTemplate(source, bounds=bounds).render(ChatRequest(messages=(USER,)))
