"""Streamed or whole, at every door the same answer: text, reasoning, calls, usage, and why it ended."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from qwenctl.errors import GenerationFailed
from qwenctl.runtime.events import FinishReason
from tests.api.api_builders import ScriptedHost, sse

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
CALL = '<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>'
FUNCTION = {"name": "now", "parameters": {"type": "object"}}

Json = dict[str, Any]


@dataclass
class Told:
    """An answer, whatever the door calls its parts."""

    text: str = ""
    thoughts: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    reason: str | None = None
    usage: Any = None


def chat_whole(body: Json) -> Told:
    """OpenAI's chat completion."""
    (choice,) = body["choices"]
    message = choice["message"]
    calls = tuple(_function(call) for call in message.get("tool_calls", ()))
    thoughts = message.get("reasoning_content", "")
    return Told(message["content"] or "", thoughts, calls, choice["finish_reason"], body["usage"])


def chat_streamed(text: str) -> Told:
    """The same from its chunks."""
    told, (*chunks, done) = Told(), sse(text)
    assert done == "[DONE]"
    for chunk in chunks:
        told.usage = chunk.get("usage", told.usage)
        for choice in chunk["choices"]:
            delta = choice["delta"]
            told.text += delta.get("content") or ""
            told.thoughts += delta.get("reasoning_content") or ""
            told.calls += tuple(_function(call) for call in delta.get("tool_calls", ()))
            told.reason = choice["finish_reason"] or told.reason
    return told


def _function(call: Json) -> tuple[str, Any]:
    return call["function"]["name"], json.loads(call["function"]["arguments"])


def completion_whole(body: Json) -> Told:
    """OpenAI's completion."""
    (choice,) = body["choices"]
    return Told(choice["text"], reason=choice["finish_reason"], usage=body["usage"])


def completion_streamed(text: str) -> Told:
    """The same from its chunks."""
    told = Told()
    for chunk in sse(text)[:-1]:
        told.usage = chunk.get("usage", told.usage)
        for choice in chunk["choices"]:
            told.text += choice["text"]
            told.reason = choice["finish_reason"] or told.reason
    return told


def response_whole(body: Json) -> Told:
    """OpenAI's response."""
    told = Told(reason=body["status"] + str(body["incomplete_details"]), usage=body["usage"])
    for item in body["output"]:
        if item["type"] == "function_call":
            told.calls += ((item["name"], json.loads(item["arguments"])),)
        elif item["type"] == "reasoning":
            told.thoughts += "".join(part["text"] for part in item["content"])
        else:
            told.text += "".join(part["text"] for part in item["content"])
    return told


def response_streamed(text: str) -> Told:
    """The same from its deltas, which must agree with the response that ends them."""
    events = [json.loads(frame.partition("\ndata: ")[2]) for frame in text.split("\n\n")[:-1]]
    told, names = Told(), {}
    for event in events:
        match event["type"]:
            case "response.output_text.delta":
                told.text += event["delta"]
            case "response.reasoning_text.delta":
                told.thoughts += event["delta"]
            case "response.output_item.added":
                names[event["output_index"]] = event["item"].get("name")
            case "response.function_call_arguments.delta":
                told.calls += ((names[event["output_index"]], json.loads(event["delta"])),)
    last = response_whole(events[-1]["response"])
    told.reason, told.usage = last.reason, last.usage
    assert told == last
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return told


def message_whole(body: Json) -> Told:
    """Anthropic's message."""
    told = Told(reason=f"{body['stop_reason']} {body['stop_sequence']}", usage=body["usage"])
    for block in body["content"]:
        told.text += block.get("text", "")
        told.thoughts += block.get("thinking", "")
        if block["type"] == "tool_use":
            told.calls += ((block["name"], block["input"]),)
    return told


def message_streamed(text: str) -> Told:
    """The same from its events."""
    told, name, counted = Told(), "", {}
    for frame in text.split("\n\n")[:-1]:
        event = json.loads(frame.partition("\ndata: ")[2])
        match event["type"]:
            case "message_start":
                counted = event["message"]["usage"]
            case "content_block_start":
                name = event["content_block"].get("name", "")
            case "content_block_delta":
                delta = event["delta"]
                told.text += delta.get("text", "")
                told.thoughts += delta.get("thinking", "")
                if "partial_json" in delta:
                    told.calls += ((name, json.loads(delta["partial_json"])),)
            case "message_delta":
                told.reason = f"{event['delta']['stop_reason']} {event['delta']['stop_sequence']}"
                told.usage = event["usage"]
    assert told.usage["input_tokens"] == counted["input_tokens"]
    return told


def ollama_told(lines: list[Json]) -> Told:
    """Ollama's lines, or the one of a whole answer."""
    told = Told()
    for line in lines:
        message = line.get("message", line)
        told.text += message.get("content", message.get("response", ""))
        told.thoughts += message.get("thinking", "")
        calls = (call["function"] for call in message.get("tool_calls", ()))
        told.calls += tuple((call["name"], call["arguments"]) for call in calls)
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    told.reason = lines[-1]["done_reason"]
    told.usage = (lines[-1]["prompt_eval_count"], lines[-1]["eval_count"])
    return told


def ollama_whole(body: Json) -> Told:
    """Ollama's whole answer."""
    return ollama_told([body])


def ollama_streamed(text: str) -> Told:
    """Its lines."""
    return ollama_told([json.loads(line) for line in text.splitlines()])


@dataclass(frozen=True)
class Door:
    """How one call is made and read: with tools, and with a schema, where it takes them."""

    path: str
    body: Json
    whole: Callable[[Json], Told]
    streamed: Callable[[str], Told]
    tools: Any = None
    form: Any = None
    splits: bool = True


DOORS = {
    "chat": Door(
        "/v1/chat/completions",
        {"messages": HELLO, "stream_options": {"include_usage": True}},
        chat_whole,
        chat_streamed,
        {"tools": [{"type": "function", "function": FUNCTION}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ),
    "completions": Door(
        "/v1/completions",
        {"prompt": "hello", "stream_options": {"include_usage": True}},
        completion_whole,
        completion_streamed,
        form={"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        splits=False,
    ),
    "responses": Door(
        "/v1/responses",
        {"input": "hello"},
        response_whole,
        response_streamed,
        {"tools": [{"type": "function", **FUNCTION}]},
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
    ),
    "messages": Door(
        "/v1/messages",
        {"messages": HELLO, "max_tokens": 99},
        message_whole,
        message_streamed,
        {"tools": [{"name": "now", "input_schema": {"type": "object"}}]},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "ollama chat": Door(
        "/api/chat",
        {"messages": HELLO},
        ollama_whole,
        ollama_streamed,
        {"tools": [{"type": "function", "function": FUNCTION}]},
        {"format": SCHEMA},
    ),
    "ollama generate": Door(
        "/api/generate", {"prompt": "hello"}, ollama_whole, ollama_streamed, form={"format": SCHEMA}
    ),
}


@pytest.fixture
def both(address: tuple[ScriptedHost, str], host: ScriptedHost) -> Callable[..., Told]:
    """Asks a door for an answer in these pieces, streamed and whole; what both tell."""

    def ask(door: Door, *deltas: str, reason: FinishReason = "stop", **fields: Any) -> Told:
        host.deltas, host.reason = deltas, reason
        body = {"model": "tiny", **door.body, **fields}
        whole = httpx.post(address[1] + door.path, json=body | {"stream": False})
        streamed = httpx.post(address[1] + door.path, json=body | {"stream": True})
        assert (whole.status_code, streamed.status_code) == (200, 200), whole.text
        told = door.whole(whole.json())
        assert door.streamed(streamed.text) == told
        assert told.usage and told.reason
        return told

    return ask


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_text(both: Callable[..., Told], door: Door, reason: FinishReason) -> None:
    """Text of several bytes a character, ended by itself or by its limit."""
    assert both(door, "Grüße, ", "\n", "wörld 🌍", reason=reason).text == "Grüße, \nwörld 🌍"


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_nothing(both: Callable[..., Told], door: Door) -> None:
    """An answer may be empty."""
    assert both(door).text == ""


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_reasoning(both: Callable[..., Told], door: Door) -> None:
    """Thoughts are apart from the answer where the API has a place for them."""
    told = both(door, "<thi", "nk>\nhm, ", "well\n</think>\n\nYes", ".")
    if door.splits:
        assert (told.thoughts, told.text) == ("hm, well", "Yes.")
    else:
        assert told.text == "<think>\nhm, well\n</think>\n\nYes."


@pytest.mark.parametrize("door", [door for door in DOORS.values() if door.tools], ids=lambda door: door.path)
@pytest.mark.parametrize("reason", ["stop", "length"])
def test_calls(both: Callable[..., Told], door: Door, reason: FinishReason) -> None:
    """Reasoning, text and two calls in one answer."""
    said = f"<think>hm</think>Let me look.\n{CALL}\n{CALL}"
    told = both(door, *(said[at : at + 7] for at in range(0, len(said), 7)), reason=reason, **door.tools)
    assert (told.thoughts, told.text) == ("hm", "Let me look.")
    assert told.calls == (("now", {"zone": "UTC"}),) * 2


@pytest.mark.parametrize("door", [door for door in DOORS.values() if door.tools], ids=lambda door: door.path)
def test_a_form_beside_tools(both: Callable[..., Told], door: Door) -> None:
    """An answer that must follow a schema may be a call instead."""
    assert both(door, '{"n": ', "1}", **door.tools, **door.form).text == '{"n": 1}'
    assert both(door, CALL, **door.tools, **door.form).calls == (("now", {"zone": "UTC"}),)


@pytest.mark.parametrize("door", [door for door in DOORS.values() if door.form], ids=lambda door: door.path)
def test_a_schema(both: Callable[..., Told], door: Door) -> None:
    """An answer in a form is its text."""
    assert json.loads(both(door, '{"n"', ": 1}", **door.form).text) == {"n": 1}


ONE_CALL: dict[str, Json] = {
    "chat": {"parallel_tool_calls": False},
    "responses": {"parallel_tool_calls": False},
    "messages": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
}


@pytest.mark.parametrize("name", ONE_CALL)
def test_one_call_only(both: Callable[..., Told], host: ScriptedHost, name: str) -> None:
    """The first call is the last; a closing tag in a thought ends nothing, nor is it a stop of the engine."""
    door = DOORS[name]
    said = ("<think>not </tool_call> yet</think>", "Look. ", CALL, "\n", CALL)
    told = both(door, *said, **door.tools, **ONE_CALL[name])
    assert (told.thoughts, told.text, len(told.calls)) == ("not </tool_call> yet", "Look.", 1)
    assert host.request.stop == ()


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize(
    ("error", "words"),
    [(GenerationFailed("it broke"), "it broke"), (RuntimeError("x"), "the runner met a bug")],
)
def test_a_failure_under_way(
    address: tuple[ScriptedHost, str], host: ScriptedHost, door: Door, error: Exception, words: str
) -> None:
    """It is the last that a stream says, also where nobody expected it; whole, it is the server's error."""
    host.error, host.error_after = error, 2
    body = {"model": "tiny", **door.body}
    streamed = httpx.post(address[1] + door.path, json=body | {"stream": True})
    assert streamed.status_code == 200
    assert words in streamed.text.rstrip("\n").rsplit("\n", 1)[-1]
    assert "[DONE]" not in streamed.text
    whole = httpx.post(address[1] + door.path, json=body | {"stream": False})
    assert (whole.status_code, words in whole.text) == (500, True)
