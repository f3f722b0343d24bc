"""OpenAI's responses, by the public client: streamed and whole, and one that goes on from another."""

import json
from typing import Any

import httpx
import pytest

from qwenctl.errors import GenerationFailed, PromptTooLong
from qwenctl.runtime.engine import Message
from tests.api.api_builders import ScriptedHost

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")

TOOLS: list[Any] = [{"type": "function", "name": "now", "parameters": {"type": "object"}, "strict": True}]
NOW = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'


def respond(client: Any, said: Any = "hello", **fields: Any) -> Any:
    """One response."""
    return client.responses.create(model="tiny", input=said, **fields)


def plain(response: Any) -> Any:
    """A response without what differs from one to the next."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: stripped(one) for key, one in value.items() if key not in ("id", "call_id", "created_at")
            }
        return [stripped(one) for one in value] if isinstance(value, list) else value

    return stripped(response.model_dump())


class TestWhole:
    """Without a stream."""

    def test_text(self, client: Any, host: ScriptedHost) -> None:
        """The text, the counts, and what of the call is repeated."""
        response = respond(client, instructions="be brief", temperature=0, max_output_tokens=9)
        assert (response.object, response.status, response.output_text) == (
            "response",
            "completed",
            "Hello wörld",
        )
        assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 3)
        assert (response.temperature, response.max_output_tokens) == (0, 9)
        assert (response.truncation, response.tool_choice, response.tools) == ("disabled", "auto", [])
        assert host.request.messages == (Message("system", "be brief"), Message("user", "hello"))
        assert (host.request.max_tokens, host.request.sampling.temperature) == (9, 0)

    def test_length(self, client: Any, host: ScriptedHost) -> None:
        """A response that met its limit is incomplete, and says why."""
        host.reason = "length"
        response = respond(client)
        assert (response.status, response.output[0].status) == ("incomplete", "incomplete")
        assert response.incomplete_details.reason == "max_output_tokens"

    def test_a_call(self, client: Any, host: ScriptedHost) -> None:
        """Text and calls are items of their own; the template gets tools in the form it prints."""
        host.deltas = ("Let me look.\n", NOW)
        message, call = respond(client, tools=TOOLS).output
        assert message.content[0].text == "Let me look."
        assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "now", {"zone": "UTC"})
        assert host.request.tools == (
            {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}},
        )

    def test_reasoning(self, client: Any, host: ScriptedHost) -> None:
        """Is an item before the message, and counted."""
        host.deltas = ("<think>", "It is.", "</think>\n\n", "Noon")
        response = respond(client)
        assert [item.type for item in response.output] == ["reasoning", "message"]
        assert response.output[0].content[0].text == "It is."
        assert response.usage.output_tokens_details.reasoning_tokens == 2

    def test_logprobs(self, client: Any, host: ScriptedHost) -> None:
        """On request the text has the likelihoods of its tokens."""
        part = respond(client, include=["message.output_text.logprobs"]).output[0].content[0]
        assert [one.token for one in part.logprobs] == ["Hel", "lo ", "wörld"]
        part = respond(client, top_logprobs=2).output[0].content[0]
        assert [one.token for one in part.logprobs[0].top_logprobs] == ["Hel", "1"]

    def test_an_answer_of_nothing(self, client: Any, host: ScriptedHost) -> None:
        """Is an empty message, which clients expect."""
        host.deltas = ()
        assert [item.type for item in respond(client).output] == ["message"]

    def test_errors(self, client: Any, host: ScriptedHost) -> None:
        """Before the first word a failure has its own status, in a stream as well."""
        host.error = PromptTooLong("the prompt has 9 tokens, the context holds 8")
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError):
                respond(client, stream=stream)


SCRIPTS = {
    "text": ("Hel", "lo"),
    "call": ("Look.\n", NOW, NOW),
    "reasoning": ("<think>a", " b</think>\n\nc", "d"),
    "nothing": (),
}


class TestStream:
    """As events."""

    @pytest.mark.parametrize("script", SCRIPTS)
    @pytest.mark.parametrize("reason", ["stop", "length"])
    def test_the_same_as_whole(self, client: Any, host: ScriptedHost, script: str, reason: Any) -> None:
        """The last event has the whole response; the pieces add up to it; the numbers count up."""
        host.deltas, host.reason = SCRIPTS[script], reason
        whole = respond(client, tools=TOOLS)
        events = list(respond(client, tools=TOOLS, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1]
        assert last.type == {"stop": "response.completed", "length": "response.incomplete"}[reason]
        assert plain(last.response) == plain(whole)
        done = [event.item for event in events if event.type == "response.output_item.done"]
        assert done == last.response.output
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == whole.output_text

    def test_the_order(self, client: Any, host: ScriptedHost) -> None:
        """Each item is opened, filled and closed before the next."""
        host.deltas = ("<think>a</think>\n\n", "b", NOW)
        text = ["output_item.added", "content_part.added"]
        end = ["content_part.done", "output_item.done"]
        arguments = ["function_call_arguments.delta", "function_call_arguments.done"]
        expected = [
            *("created", "in_progress"),
            *(*text, "reasoning_text.delta", "reasoning_text.done", *end),
            *(*text, "output_text.delta", "output_text.done", *end),
            *("output_item.added", *arguments, "output_item.done"),
            "completed",
        ]
        events = list(respond(client, tools=TOOLS, stream=True))
        assert [event.type.removeprefix("response.") for event in events] == expected
        places = [event.output_index for event in events if hasattr(event, "output_index")]
        assert places == sorted(places)

    def test_a_failure_under_way(self, client: Any, host: ScriptedHost) -> None:
        """The response failed, with what there was of it and why."""
        host.error, host.error_after = GenerationFailed("a decode step failed"), 2
        last = list(respond(client, stream=True))[-1]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert (last.response.error.code, last.response.error.message) == (
            "server_error",
            "a decode step failed",
        )
        assert last.response.output_text == "Hello "

    def test_the_clients_own_reader(self, client: Any, host: ScriptedHost) -> None:
        """The client's accumulating stream finds every event in its place."""
        host.deltas = ("<think>a</think>\n\n", "b", NOW)
        with client.responses.stream(model="tiny", input="hello", tools=TOOLS) as stream:
            for _ in stream:
                pass
            assert stream.get_final_response().output_text == "b"

    def test_frames(self, address: tuple[ScriptedHost, str], host: ScriptedHost) -> None:
        """Each event is named, and there is no `[DONE]`."""
        answer = httpx.post(
            f"{address[1]}/v1/responses", json={"model": "tiny", "input": "x", "stream": True}
        )
        names = [line for line in answer.text.splitlines() if line.startswith("event: ")]
        assert (names[0], names[-1]) == ("event: response.created", "event: response.completed")
        assert "[DONE]" not in answer.text


class TestTurns:
    """Conversations."""

    def test_going_on(self, client: Any, host: ScriptedHost) -> None:
        """A call that names a response goes on from all its turns; instructions are not carried over."""
        host.deltas = ("<think>Clock.</think>\n\nLook.\n", NOW)
        first = respond(client, "time?", tools=TOOLS, instructions="be brief")
        call = first.output[-1]
        host.deltas = ("Noon.",)
        output = [{"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}]
        second = respond(client, output, previous_response_id=first.id, tools=TOOLS)
        assert second.previous_response_id == first.id
        asked, called, told = host.request.messages
        assert (asked, told) == (
            Message("user", "time?"),
            Message("tool", "12:00", tool_call_id=call.call_id),
        )
        assert (called.role, called.reasoning_content, called.tool_calls[0].name) == (
            "assistant",
            "Clock.",
            "now",
        )
        respond(client, "thanks", previous_response_id=second.id)
        assert [message.role for message in host.request.messages] == [
            "user",
            "assistant",
            "tool",
            "assistant",
            "user",
        ]

    def test_the_same_by_hand(self, client: Any, host: ScriptedHost) -> None:
        """A client that keeps the turns itself sends the output items back as they came."""
        host.deltas = ("<think>Clock.</think>\n\nLook.\n", NOW)
        first = respond(client, "time?", tools=TOOLS, store=False)
        turns = [
            {"role": "user", "content": "time?"},
            *(item.model_dump(exclude_none=True) for item in first.output),
        ]
        output = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "12:00"}
        respond(client, [*turns, output], tools=TOOLS)
        assert [message.role for message in host.request.messages] == ["user", "assistant", "tool"]
        assert host.request.messages[1].reasoning_content == "Clock."
        assert [call.id for call in host.request.messages[1].tool_calls] == [first.output[-1].call_id]

    def test_kept(self, client: Any, host: ScriptedHost) -> None:
        """A response can be fetched, streamed or not, with what was said, and deleted."""
        for stream in (False, True):
            made = respond(client, "hello", stream=stream)
            first = list(made)[-1].response if stream else made
            assert client.responses.retrieve(first.id) == first
            items = client.responses.input_items.list(first.id).data
            assert [(item.type, item.role) for item in items] == [("message", "user")]
            client.responses.delete(first.id)
            with pytest.raises(openai.NotFoundError):
                client.responses.retrieve(first.id)

    def test_pages_of_items(self, client: Any, host: ScriptedHost) -> None:
        """The last said comes first, unless asked otherwise, a page at a time."""
        turns = [{"role": "user", "content": text} for text in "abc"]
        first = respond(client, turns)
        listed = client.responses.input_items.list(first.id, limit=2)
        assert [item.content for item in listed] == [
            "c",
            "b",
            "a",
        ]  # the client fetches the next page by itself
        listed = client.responses.input_items.list(first.id, order="asc")
        assert [item.content for item in listed] == ["a", "b", "c"]

    @pytest.mark.parametrize("query", [{"order": "up"}, {"limit": 0}, {"limit": 101}, {"after": "nothing"}])
    def test_pages_that_are_not(self, client: Any, host: ScriptedHost, query: dict[str, Any]) -> None:
        """A wrong parameter of the address is named."""
        first = respond(client)
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.input_items.list(first.id, extra_query=query)
        assert caught.value.param == next(iter(query))

    def test_not_kept(self, client: Any, host: ScriptedHost) -> None:
        """`store: false` leaves nothing behind."""
        first = respond(client, store=False)
        assert first.store is False
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)
        with pytest.raises(openai.BadRequestError) as caught:
            respond(client, previous_response_id=first.id)
        assert caught.value.param == "previous_response_id"

    def test_counting(self, client: Any, host: ScriptedHost) -> None:
        """The tokens of a prompt, without an answer."""
        assert client.responses.input_tokens.count(model="tiny", input="hello").input_tokens == 5
        assert host.asked == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": 5}, "input"),
        ({"tools": [*TOOLS, {"type": "web_search"}]}, "tools[1].type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"truncation": "always"}, "truncation"),
        ({"max_output_tokens": 0}, "max_tokens"),
    ],
)
def test_refusals(client: Any, host: ScriptedHost, fields: dict[str, Any], param: str) -> None:
    """With the place that is to blame; nothing reaches the engine."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**({"model": "tiny", "input": "x"} | fields))
    assert caught.value.param == param
    assert host.asked == []
