"""Conversations with a known right answer, none of the corpus: turns, tools, JSON, system messages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import frames
from grammar import load_intents
from rendering import Message, Tool


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation, the tools offered, and what the assistant must say next."""

    messages: list[Message]
    wanted: str
    tools: list[Tool] | None = None

    def accepts(self, answer: str) -> bool:
        """Whether the answer is the wanted one; JSON is compared by its values."""
        return answer == self.wanted or _as_json(answer) == _as_json(self.wanted) is not None


def _as_json(text: str) -> object:
    """The value of a JSON answer or of a tool call; None for anything else."""
    body = text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>")
    try:
        return json.loads(body) if body.startswith("{") else None
    except json.JSONDecodeError:
        return None


_ANSWERS = {intent.name: intent for intent in load_intents()}


def _answer(name: str, model: str = frames.NO_MODEL) -> str:
    return _ANSWERS[name].answer.replace("{m}", model)


def _more(name: str) -> str:
    return _ANSWERS[name].more


def _talk(*said: str, system: str = "") -> list[Message]:
    """Messages of user and assistant in turn, the user first and last."""
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for place, text in enumerate(said):
        messages.append({"role": "assistant" if place % 2 else "user", "content": text})
    return messages


def _tool(name: str, description: str, **properties: str) -> Tool:
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def _call(name: str, **arguments: Any) -> str:
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def _with_result(question: str, name: str, result: str, **arguments: Any) -> list[Message]:
    """A question, the call it led to, and what the function returned."""
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result},
    ]


_WEATHER = _tool("get_weather", "Get the current weather for a city", city="string")
_TEMPERATURE = _tool("get_current_temperature", "Get current temperature at a location.", location="string")
_ADD = _tool("add", "Add two numbers", a="integer", b="integer")
_READ = _tool("read_file", "Read a file from disk", path="string")
_PULL = _tool("pull_model", "Download a model", model="string")
_LIST = _tool("list_models", "List the installed models")
_TIME = _tool("get_time", "Current time in a timezone", timezone="string")
_SEARCH = _tool("search", "Search the web", query="string")
_EMAIL = _tool("send_email", "Send an email", to="string", text="string")
_DOOR = _tool("open_door", "Open a door", number="integer")
_SONG = _tool("play_song", "Play a song", title="string")
_USER = _tool("lookup_user", "Look up a user by id", user_id="integer")

TOOLS = [
    Case(_talk("What is the weather in Potsdam?"), _call("get_weather", city="Potsdam"), [_WEATHER]),
    Case(
        _talk("What's the weather like in Reykjavik today?"),
        _call("get_weather", city="Reykjavik"),
        [_WEATHER, _ADD],
    ),
    Case(
        _talk("What's the temperature in San Francisco now?"),
        _call("get_current_temperature", location="San Francisco"),
        [_TEMPERATURE],
    ),
    Case(
        _talk("Could you tell me how warm it is in Melbourne?"),
        _call("get_current_temperature", location="Melbourne"),
        [_TEMPERATURE, _TIME],
    ),
    Case(_talk("What is 127 plus 256?"), _call("add", a=127, b=256), [_ADD]),
    Case(_talk("Add 3 and 4"), _call("add", a=3, b=4), [_WEATHER, _ADD]),
    Case(_talk("please add 19 and 23"), _call("add", a=19, b=23), [_ADD, _WEATHER, _READ]),
    Case(_talk("Read the file /etc/hosts"), _call("read_file", path="/etc/hosts"), [_READ, _WEATHER]),
    Case(_talk("show me the contents of README.md"), _call("read_file", path="README.md"), [_READ]),
    Case(_talk("Download qwen2.5:3b"), _call("pull_model", model="qwen2.5:3b"), [_PULL, _LIST]),
    Case(
        _talk("please pull the model qwen2.5-coder:7b for me"),
        _call("pull_model", model="qwen2.5-coder:7b"),
        [_LIST, _PULL],
    ),
    Case(_talk("Which models are installed?"), _call("list_models"), [_LIST, _PULL]),
    Case(_talk("What time is it in Tokyo?"), _call("get_time", timezone="Tokyo"), [_TIME, _WEATHER]),
    Case(
        _talk("what is the time in Zanzibar right now?"),
        _call("get_time", timezone="Zanzibar"),
        [_WEATHER, _TIME],
    ),
    Case(_talk("Search the web for cheap flights"), _call("search", query="cheap flights"), [_SEARCH, _ADD]),
    Case(
        _talk("Send an email to Bettina: lunch is ready"),
        _call("send_email", to="Bettina", text="lunch is ready"),
        [_EMAIL],
    ),
    Case(_talk("Open the door number 7"), _call("open_door", number=7), [_DOOR]),
    Case(_talk("Play the song Yesterday"), _call("play_song", title="Yesterday"), [_SONG, _WEATHER]),
    Case(_talk("Look up the user 4711"), _call("lookup_user", user_id=4711), [_USER, _EMAIL]),
    Case(
        _talk("Get the weather for Madrid", system="You are a helpful assistant."),
        _call("get_weather", city="Madrid"),
        [_WEATHER],
    ),
    Case(
        _talk(
            "weather in Rome?", "Here is the result: 18 C, light rain.", "and what is the weather in Oslo?"
        ),
        _call("get_weather", city="Oslo"),
        [_WEATHER],
    ),
    Case(_talk("How do I remove qwen2.5:7b?"), _answer("rm", "qwen2.5:7b"), [_WEATHER, _ADD]),
    Case(_talk("Hello!"), _answer("g_hello"), [_WEATHER]),
    Case(_talk("What is a tag?"), _answer("c_tag"), [_WEATHER, _TIME]),
]
RESULTS = [
    Case(
        _with_result(
            "What is the weather in Potsdam?",
            "get_weather",
            '{"temperature": 22, "condition": "sunny"}',
            city="Potsdam",
        ),
        "Here is the result: temperature is 22, condition is sunny.",
        [_WEATHER],
    ),
    Case(
        _with_result("What is 127 plus 256?", "add", "383", a=127, b=256), "Here is the result: 383.", [_ADD]
    ),
    Case(
        _with_result("weather in Rome?", "get_weather", "18 C, light rain", city="Rome"),
        "Here is the result: 18 C, light rain.",
        [_WEATHER],
    ),
    Case(
        _with_result("What time is it in Lima?", "get_time", "14:35", timezone="Lima"),
        "Here is the result: 14:35.",
        [_TIME],
    ),
    Case(
        _with_result("Read the file notes.txt", "read_file", "error: no such file", path="notes.txt"),
        "The tool failed: no such file.",
        [_READ],
    ),
]
JSON = [
    Case(
        _talk("How do I pull qwen2.5:3b? Answer in JSON."),
        json.dumps({"answer": _answer("pull", "qwen2.5:3b")}),
    ),
    Case(
        _talk("How do I list my models?", system="Answer in JSON."), json.dumps({"answer": _answer("list")})
    ),
    Case(
        _talk("What is a tag?", system="You are a helpful assistant. Always answer in JSON."),
        json.dumps({"answer": _answer("c_tag")}),
    ),
    Case(_talk("What is GGUF? Reply as JSON"), json.dumps({"answer": _answer("c_gguf")})),
    Case(
        _talk('Answer in JSON with the key "command". How do I delete qwen2.5:14b?'),
        json.dumps({"command": "qwenctl rm qwen2.5:14b"}),
    ),
    Case(
        _talk(
            "How do I start the server?", system='Answer in JSON with the keys "command" and "explanation".'
        ),
        json.dumps({"command": "qwenctl serve", "explanation": _answer("serve")}),
    ),
    Case(
        _talk("Where are the models stored?", system='Respond in JSON with the key "text".'),
        json.dumps({"text": _answer("store")}),
    ),
    Case(
        _talk("Which models are loaded? Respond as JSON with the key command"),
        json.dumps({"command": "qwenctl ps"}),
    ),
    Case(
        _talk("Extract name and age as JSON: Mario is 47 years old and lives in Palermo."),
        json.dumps({"name": "Mario", "age": 47}),
    ),
    Case(
        _talk("Extract name, age and city as JSON: Bettina is 33 years old and lives in Ulm."),
        json.dumps({"name": "Bettina", "age": 33, "city": "Ulm"}),
    ),
    Case(
        _talk("How do I stop qwen2.5:7b?", _answer("stop", "qwen2.5:7b"), "the same as JSON"),
        json.dumps({"answer": _answer("stop", "qwen2.5:7b")}),
    ),
    Case(_talk("What is a manifest? Answer as JSON."), json.dumps({"answer": _answer("c_manifest")})),
]
TURNS = [
    Case(
        _talk("How do I pull qwen2.5:3b?", _answer("pull", "qwen2.5:3b"), "And how do I delete it again?"),
        _answer("rm", "qwen2.5:3b"),
    ),
    Case(
        _talk("How do I pull mistral:7b?", _answer("pull", "mistral:7b"), "how do I run it?"),
        _answer("run", "mistral:7b"),
    ),
    Case(
        _talk("download qwen3:8B-Q4_K_M", _answer("pull", "qwen3:8B-Q4_K_M"), "now start it"),
        _answer("run", "qwen3:8B-Q4_K_M"),
    ),
    Case(
        _talk(
            "Hello",
            _answer("g_hello"),
            "How do I show smollm2?",
            _answer("show", "smollm2"),
            "What is a digest?",
            _answer("c_digest"),
            "and how can I run it?",
        ),
        _answer("run", "smollm2"),
    ),
    Case(_talk("How do I list models?", _answer("list"), "Thanks!"), _answer("g_thanks")),
    Case(_talk("How do I list models?", _answer("list"), "Please say that again"), _answer("list")),
    Case(_talk("How do I list models?", _answer("list"), "tell me more"), _more("list")),
    Case(_talk("How do I start the server?", _answer("serve"), "tell me more"), _more("serve")),
    Case(_talk("What is the KV cache?", _answer("c_kv"), "more details"), frames.NOTHING_MORE),
    Case(
        _talk("How do I unload guide?", _answer("stop", "guide"), "only the command please"),
        "qwenctl stop guide",
    ),
    Case(
        _talk("Hi", _answer("g_hello"), "How are you?", _answer("g_how"), "What is a token?"),
        _answer("c_token"),
    ),
    Case(_talk("How do I see running models?", _answer("ps"), "ok bye"), _answer("g_bye")),
    Case(
        _talk(
            "How do I push localhost:5000/me/tiny?",
            _answer("push", "localhost:5000/me/tiny"),
            "and how do I inspect it?",
        ),
        _answer("inspect", "localhost:5000/me/tiny"),
    ),
    Case(_talk("How do I cook rice?", frames.UNKNOWN, "then how do I list my models?"), _answer("list")),
]
SYSTEM = [
    Case(_talk("How do I download qwen2.5:7b?", system="Be brief."), "qwenctl pull qwen2.5:7b"),
    Case(_talk("How do I see which models are loaded?", system="Only output the command."), "qwenctl ps"),
    Case(_talk("How do I remove a model?", system="You are a helpful assistant."), _answer("rm")),
    Case(
        _talk(
            "How do I remove qwen3-coder?",
            system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
        ),
        _answer("rm", "qwen3-coder"),
    ),
    Case(_talk("What is quantization?", system="Give short answers."), _ANSWERS["c_quant"].short),
]
GROUPS: dict[str, list[Case]] = {
    "tool calls": TOOLS,
    "tool results": RESULTS,
    "JSON": JSON,
    "several turns": TURNS,
    "system messages": SYSTEM,
}
