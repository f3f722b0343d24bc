"""ChatCompletionCall: what clients send, and what the engine is asked for it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.api.openai_chat_wire import ChatCompletionCall
from qwenctl.api.sampling_wire import seeded
from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import Message, TextPart, ToolCall
from qwenctl.runtime.sampling import RANDOM_SEED, Sampling
from qwenctl.runtime.schema import ANY_OBJECT, grammar_of
from tests.api.api_builders import call


def parse(body: dict[str, Any]) -> ChatCompletionCall:
    """`body` through JSON, as the door reads it."""
    return msgspec.json.decode(msgspec.json.encode(body), type=ChatCompletionCall)


def test_nothing_given_is_the_engine_default() -> None:
    """Absent and null fields leave every choice to the engine."""
    nulls = dict.fromkeys(("temperature", "seed", "stop", "tools", "max_tokens", "n", "stream", "top_p"))
    for request in (parse(call()).request(), parse(call(**nulls)).request()):
        assert request.sampling == Sampling()
        assert (request.max_tokens, request.stop, request.tools) == (None, (), ())
        assert request.tool_choice == "auto"


def test_sampling_fields_are_passed_on() -> None:
    """Every field of the sampling that the API names reaches the engine."""
    given = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "typical_p": 0.8,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "seed": 42,
    }
    assert parse(call(**given)).request().sampling == Sampling(**given)  # type: ignore[arg-type]


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_is_a_seed(seed: int) -> None:
    """The API allows any 64-bit integer; each becomes one that llama.cpp takes, and never its "random"."""
    drawn = parse(call(seed=seed)).request().sampling.seed
    assert drawn is not None
    assert 0 <= drawn < RANDOM_SEED


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
    ],
)
def test_the_newer_limit_wins(fields: dict[str, int], limit: int) -> None:
    """`max_completion_tokens` replaced `max_tokens`."""
    assert parse(call(**fields)).request().max_tokens == limit


@pytest.mark.parametrize(("stop", "stops"), [("end", ("end",)), (["a", "b"], ("a", "b")), ([], ())])
def test_stop_is_one_or_several(stop: object, stops: tuple[str, ...]) -> None:
    """One stop string may come without a list."""
    assert parse(call(stop=stop)).request().stop == stops


def test_messages_keep_their_form() -> None:
    """Text parts, calls of the assistant and results of tools reach the template."""
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "what"}, {"type": "text", "text": "time?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
    ]
    assert parse(call(messages=messages)).request().messages == (
        Message("user", (TextPart("what"), TextPart("time?"))),
        Message("assistant", None, (ToolCall("now", "{}", "1"),)),
        Message("tool", "noon", tool_call_id="1"),
    )


def test_template_options() -> None:
    """`enable_thinking` beside the other template options ends up among them."""
    request = parse(call(chat_template_kwargs={"depth": 2}, enable_thinking=False)).request()
    assert request.template_options == {"depth": 2, "enable_thinking": False}


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ("none", "none"),
        ("required", "auto"),
        ({"type": "function", "function": {"name": "now"}}, "auto"),
        ({"type": "auto"}, "auto"),
    ],
)
def test_tool_choice_is_one_word(choice: object, told: str) -> None:
    """The template is told whether there are tools; a demand for a call becomes a grammar."""
    tools = [{"type": "function", "function": {"name": "now"}}]
    request = parse(call(tools=tools, tool_choice=choice)).request()
    assert (request.tool_choice, request.tools) == (told, tuple(tools))


@pytest.mark.parametrize(
    ("fields", "grammar"),
    [
        ({}, ""),
        ({"response_format": {"type": "text"}}, ""),
        ({"response_format": {"type": "json_object"}}, ANY_OBJECT),
        ({"grammar": "root ::= [a]"}, "root ::= [a]"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"const": 1}},
                }
            },
            grammar_of({"const": 1}),
        ),
        (
            {
                "response_format": {"type": "json_object"},
                "tools": [{"type": "function"}],
                "tool_choice": "none",
            },
            ANY_OBJECT,
        ),
    ],
)
def test_the_form_of_the_answer_becomes_a_grammar(fields: dict[str, Any], grammar: str) -> None:
    """A schema, any object, or llama.cpp's own language."""
    assert parse(call(**fields)).request().sampling.grammar == grammar


def test_a_demand_for_a_call_becomes_a_grammar() -> None:
    """Of any tool, or of the one that is named; of one that is not there it is an error."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("now", "later")]
    grammar = parse(call(tools=tools, tool_choice="required")).request().sampling.grammar
    assert "now" in grammar and "later" in grammar
    named = {"type": "function", "function": {"name": "later"}}
    grammar = parse(call(tools=tools, tool_choice=named)).request().sampling.grammar
    assert "now" not in grammar and "later" in grammar
    for choice in ("absent", "required"):
        with pytest.raises(InvalidRequest, match="tool_choice"):
            parse(call(tools=tools if choice == "absent" else [], tool_choice=choice)).request()
    with pytest.raises(InvalidRequest, match="exclude"):
        parse(call(tools=tools, tool_choice="required", grammar="root ::= [a]")).request()


def test_calls_that_may_come_are_guided() -> None:
    """Offered tools hold a call to their schemas from its tag on; a form of the whole answer has no tag."""
    tools = [{"type": "function", "function": {"name": "now"}}]
    sampling = parse(call(tools=tools)).request().sampling
    assert "now" in sampling.grammar and sampling.grammar_triggers
    assert parse(call(tools=tools, tool_choice="none")).request().sampling == Sampling()
    assert parse(call(response_format={"type": "json_object"})).request().sampling.grammar_triggers == ()


def test_a_schema_that_cannot_be_enforced_is_refused() -> None:
    """With its place, never ignored."""
    form = {"type": "json_schema", "json_schema": {"schema": {"type": "integer", "multipleOf": 3}}}
    with pytest.raises(InvalidRequest, match="#/multipleOf"):
        parse(call(response_format=form)).request()


@pytest.mark.parametrize("n", [0, -1, 17])
def test_the_number_of_answers_is_bounded(n: int) -> None:
    """Each of them is a request of its own to the engine."""
    with pytest.raises(InvalidRequest, match="`n`"):
        _ = parse(call(n=n)).choices


def test_every_answer_has_a_seed_of_its_own() -> None:
    """Counted up from the call's, round the largest that llama.cpp takes; without one all are drawn."""
    request = parse(call(seed=RANDOM_SEED - 2)).request()
    assert [one.sampling.seed for one in seeded(request, 3)] == [RANDOM_SEED - 2, RANDOM_SEED - 1, 0]
    assert [one.sampling.seed for one in seeded(parse(call()).request(), 2)] == [None, None]


def test_log_probabilities() -> None:
    """Those of the tokens that come, or of alternatives too, and none that was not asked for."""
    asked: list[dict[str, Any]] = [
        {},
        {"logprobs": False},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 5},
    ]
    assert [parse(call(**fields)).request().top_logprobs for fields in asked] == [None, None, 0, 5]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file"])
def test_contents_that_are_no_text_are_refused(kind: str) -> None:
    """With their place."""
    content = [{"type": "text", "text": "see"}, {"type": kind, kind: {}}]
    with pytest.raises(InvalidRequest, match=rf"`messages\[0\].content\[1\].type` is `{kind}`"):
        parse(call(messages=[{"role": "user", "content": content}])).request()


def test_a_developer_is_the_system() -> None:
    """Templates know the older name only."""
    request = parse(call(messages=[{"role": "developer", "content": "be brief"}])).request()
    assert request.messages == (Message("system", "be brief"),)


@pytest.mark.parametrize(
    ("effort", "options"), [("none", {"enable_thinking": False}), ("low", {"reasoning_effort": "low"})]
)
def test_reasoning_effort(effort: str, options: dict[str, Any]) -> None:
    """None switches thinking off; every other one is the template's matter."""
    assert parse(call(reasoning_effort=effort)).request().template_options == options


@pytest.mark.parametrize("overflow", ["refuse", "truncate", "shift"])
def test_overflow(overflow: str) -> None:
    """What happens to a prompt that is too long is the caller's choice; without one it is refused."""
    assert parse(call(overflow=overflow)).request().overflow == overflow
    assert parse(call()).request().overflow == "refuse"


def test_further_sampling() -> None:
    """What llama.cpp's server knows beyond the API, by its names."""
    fields = {"repeat_last_n": 9, "dry_multiplier": 0.8, "dry_penalty_last_n": 99, "xtc_probability": 0.5}
    sampling = parse(call(mirostat=2, logit_bias={"7": -100, "9": 1.5}, **fields)).request().sampling
    assert (sampling.penalty_window, sampling.dry_multiplier, sampling.dry_window) == (9, 0.8, 99)
    assert (sampling.xtc_probability, sampling.mirostat) == (0.5, 2)
    assert sampling.logit_bias == ((7, -100.0), (9, 1.5))


@pytest.mark.parametrize(
    "fields",
    [
        {"top_logprobs": 3},
        {"top_logprobs": 21, "logprobs": True},
        {"functions": [{"name": "now"}]},
        {"audio": {"voice": "alloy"}},
        {"modalities": ["audio"]},
        {"tool_choice": {"type": "allowed_tools"}},
        {"logit_bias": {"word": 5}},
        {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_object"}, "grammar": "root ::= [a]"},
        {"messages": []},
        {"max_tokens": 0},
        {"temperature": -1},
        {"top_p": 1.5},
    ],
)
def test_what_we_cannot_do_is_refused(fields: dict[str, Any]) -> None:
    """A field whose effect we cannot give, or a value out of range, is an error, never ignored."""
    with pytest.raises(InvalidRequest, match=next(iter(fields))):
        parse(call(**fields)).request()
