"""Anthropic's door, by its public client and by hand."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from qwenctl.errors import GenerationFailed, PromptTooLong, WorkerDied
from tests.api.api_builders import ScriptedHost

anthropic = pytest.importorskip("anthropic", reason="the `anthropic` package is not installed")

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
NOW = {"name": "now", "description": "the time", "input_schema": {"type": "object", "properties": {}}}
CALL = 'Look.\n<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'


@pytest.fixture
def client(address: tuple[ScriptedHost, str]) -> Iterator[Any]:
    """The public client, pointed at us."""
    with anthropic.Anthropic(base_url=address[1], api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def say(client: Any) -> Any:
    """Sends a call for the model `tiny`, streamed on wish; the message, as the client puts it together."""

    def send(stream: bool = False, **fields: Any) -> Any:
        call = {"model": "tiny", "max_tokens": 99, "messages": HELLO} | fields
        if not stream:
            return client.messages.create(**call)
        with client.messages.stream(**call) as streamed:
            return streamed.get_final_message()

    return send


@pytest.mark.parametrize("stream", [False, True])
def test_a_message(say: Any, host: ScriptedHost, stream: bool) -> None:
    """Text, why it ended, and what it cost: what was in the cache is not input."""
    message = say(stream, system="be brief", extra_body={"temperature": 0, "top_p": 0.5, "top_k": 7})
    assert [(block.type, block.text) for block in message.content] == [("text", "Hello wörld")]
    assert (message.role, message.model, message.stop_reason) == ("assistant", "tiny", "end_turn")
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (5, 2, 3)
    assert [(turn.role, turn.content) for turn in host.request.messages] == [
        ("system", "be brief"),
        ("user", "hello"),
    ]
    sampling = host.request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, host.request.max_tokens) == (0, 0.5, 7, 99)


def test_the_events_of_a_stream(client: Any, host: ScriptedHost) -> None:
    """They come in the order that clients rely on, and count the prompt first."""
    with client.messages.create(model="tiny", max_tokens=9, messages=HELLO, stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[0].message.usage.input_tokens == 5
    assert "".join(event.delta.text for event in events[2:5]) == "Hello wörld"


@pytest.mark.parametrize("stream", [False, True])
def test_calls(say: Any, host: ScriptedHost, stream: bool) -> None:
    """A call is a block of its own behind the text, with an id for the result."""
    host.deltas = tuple(CALL)
    message = say(stream, tools=[NOW])
    text, call = message.content
    assert (text.text, call.type, call.name, call.input) == ("Look.", "tool_use", "now", {"zone": "UTC"})
    assert call.id.startswith("toolu_")
    assert message.stop_reason == "tool_use"
    function = host.request.tools[0]["function"]
    assert function == {"name": "now", "description": "the time", "parameters": NOW["input_schema"]}


@pytest.mark.parametrize("stream", [False, True])
def test_thinking(say: Any, host: ScriptedHost, stream: bool) -> None:
    """What was thought is a block before the answer, signed so that clients send it back."""
    host.deltas = ("<think>", "hm", " well", "</think>", "yes")
    message = say(stream, thinking={"type": "enabled", "budget_tokens": 1024})
    thought, text = message.content
    assert (thought.type, thought.thinking, text.text) == ("thinking", "hm well", "yes")
    assert thought.signature
    assert host.request.template_options == {"enable_thinking": True}


def test_the_reasons_of_an_end(say: Any, host: ScriptedHost) -> None:
    """The limit, and the stop string that came."""
    host.reason = "length"
    assert say().stop_reason == "max_tokens"
    host.reason, host.stop = "stop", "END"
    message = say(stop_sequences=["END", "other"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")
    assert host.request.stop == ("END", "other")


def test_counting(client: Any, host: ScriptedHost) -> None:
    """The tokens of a prompt, without an answer to it."""
    counted = client.messages.count_tokens(model="tiny", messages=HELLO, system="be")
    assert counted.input_tokens == len("hello") + len("be")
    assert host.asked == []


def test_models(client: Any, host: ScriptedHost) -> None:
    """Whoever speaks this API gets the models in its shape, at the address that OpenAI's shares."""
    assert [model.id for model in client.models.list()] == ["tiny", "me/other:7B"]
    assert client.models.retrieve("me/other:7B").type == "model"


def test_models_for_others(address: tuple[ScriptedHost, str], host: ScriptedHost) -> None:
    """Without the header that address is OpenAI's."""
    assert httpx.get(f"{address[1]}/v1/models").json()["object"] == "list"


def test_keep_alive_is_ours(say: Any, host: ScriptedHost) -> None:
    """A call may say how long the model stays; what we do not know is ignored."""
    say(extra_body={"keep_alive": "5m", "metadata": {"user_id": "me"}, "service_tier": "auto"})
    assert host.asked[-1][1] == 300


def test_errors(say: Any, host: ScriptedHost) -> None:
    """The client finds its own exceptions for our statuses, and our message in them."""
    with pytest.raises(anthropic.NotFoundError, match="`nowhere` is not here") as missing:
        say(model="nowhere")
    assert missing.value.body["error"]["type"] == "not_found_error"
    host.error = PromptTooLong("the prompt has 9 tokens, the context holds 8")
    with pytest.raises(anthropic.BadRequestError, match="the context holds 8") as refused:
        say()
    assert refused.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "the prompt has 9 tokens, the context holds 8"},
    }
    host.error = WorkerDied("the process is gone")
    with pytest.raises(anthropic.InternalServerError) as died:
        say()
    assert died.value.body["error"]["type"] == "overloaded_error"


def test_names_of_claude(say: Any, host: ScriptedHost) -> None:
    """They stand for none of ours; the hint says what to do."""
    with pytest.raises(anthropic.NotFoundError, match=r"`tiny`.*ANTHROPIC_MODEL"):
        say(model="claude-of-tomorrow")


def test_a_failure_under_way(client: Any, host: ScriptedHost) -> None:
    """It is the last event, which the client raises, after the text that was there."""
    host.error, host.error_after = GenerationFailed("it broke"), 2
    with client.messages.create(model="tiny", max_tokens=9, messages=HELLO, stream=True) as stream:
        heard = []
        with pytest.raises(anthropic.APIStatusError, match="it broke"):
            for event in stream:
                heard.append(event.type)
    assert heard.count("content_block_delta") == 2


def test_a_client_that_leaves_cancels(client: Any, host: ScriptedHost) -> None:
    """The engine is not kept busy for nobody."""
    host.deltas, host.pause_seconds = ["more "] * 1000, 0.01
    with client.messages.create(model="tiny", max_tokens=9, messages=HELLO, stream=True) as stream:
        next(iter(stream))
    assert host.closed.wait(10)
