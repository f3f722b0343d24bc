"""Ollama's door, by its public client and by hand."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from qwenctl.errors import GenerationFailed
from qwenctl.runtime.engine import CompletionRequest
from tests.api.api_builders import ScriptedHost
from tests.api.library_builders import Shelf, resident

ollama = pytest.importorskip("ollama", reason="the `ollama` package is not installed")

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def client(address: tuple[ScriptedHost, str]) -> Iterator[Any]:
    """The public client, pointed at us."""
    made = ollama.Client(host=address[1])
    yield made
    made._client.close()


@pytest.fixture
def post(address: tuple[ScriptedHost, str]) -> Any:
    """Posts a body by hand; status and lines of the answer."""

    def send(path: str, **body: Any) -> tuple[int, list[dict[str, Any]]]:
        answer = httpx.post(address[1] + path, json=body)
        return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]

    return send


def test_version(address: tuple[ScriptedHost, str]) -> None:
    """Our own version: we do not pretend."""
    from qwenctl import __version__

    assert httpx.get(f"{address[1]}/api/version").json() == {"version": __version__}


def test_chat(client: Any, host: ScriptedHost) -> None:
    """The client reads a whole answer with its figures."""
    answer = client.chat(
        "tiny", HELLO, options={"temperature": 0, "seed": 3, "num_predict": 9, "stop": ["x"]}
    )
    assert (answer.message.role, answer.message.content) == ("assistant", "Hello wörld")
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (7, 3)
    assert (answer.prompt_eval_duration, answer.eval_duration) == (100_000_000, 200_000_000)
    asked = host.request
    assert (asked.sampling.temperature, asked.sampling.seed) == (0, 3)
    assert (asked.max_tokens, asked.stop) == (9, ("x",))


def test_streams_give_the_same(client: Any, host: ScriptedHost) -> None:
    """Line by line, the same text; the last line has the figures."""
    lines = list(client.chat("tiny", HELLO, stream=True))
    assert "".join(line.message.content for line in lines) == "Hello wörld"
    assert [line.done for line in lines] == [False, False, False, True]
    assert lines[-1].eval_count == 3


def test_generate(client: Any, host: ScriptedHost) -> None:
    """A prompt is a turn of the user, with a system message before; raw it is the prompt itself."""
    assert client.generate("tiny", "why?", system="be brief").response == "Hello wörld"
    assert [(message.role, message.content) for message in host.request.messages] == [
        ("system", "be brief"),
        ("user", "why?"),
    ]
    assert "".join(part.response for part in client.generate("tiny", "why?", raw=True, stream=True))
    asked = host.asked[-1][0]
    assert isinstance(asked, CompletionRequest) and asked.prompt == "why?"


def test_the_turns_of_a_conversation(client: Any, host: ScriptedHost) -> None:
    """Calls and their results reach the template in the engine's form."""
    call = {"function": {"name": "now", "arguments": {"zone": "UTC"}}}
    turns = [*HELLO, {"role": "assistant", "content": "", "tool_calls": [call]}]
    client.chat("tiny", [*turns, {"role": "tool", "content": "noon", "tool_name": "now"}])
    sent = host.request.messages
    assert (sent[1].tool_calls[0].name, sent[1].tool_calls[0].arguments) == ("now", '{"zone":"UTC"}')
    assert (sent[2].role, sent[2].name) == ("tool", "now")


@pytest.mark.parametrize("stream", [False, True])
def test_calls(client: Any, host: ScriptedHost, stream: bool) -> None:
    """Calls are objects of the message, streamed or not; the text before stays text."""
    host.deltas = tuple('Look.\n<tool_call>\n{"name": "now", "arguments": {"zone": "UTC"}}\n</tool_call>')
    tools = [{"type": "function", "function": {"name": "now"}}]
    answer = client.chat("tiny", HELLO, tools=tools, stream=stream)
    messages = [line.message for line in answer] if stream else [answer.message]
    calls = [call.function for message in messages for call in message.tool_calls or ()]
    assert [(call.name, dict(call.arguments)) for call in calls] == [("now", {"zone": "UTC"})]
    assert "".join(message.content for message in messages) == "Look."


def test_keep_alive_and_thinking(client: Any, host: ScriptedHost) -> None:
    """How long the model stays, and whether it thinks, are the call's."""
    client.chat("tiny", HELLO, keep_alive="5m", think=False)
    assert host.asked[-1][1] == 300
    assert host.request.template_options == {"enable_thinking": False}


def test_the_defaults_are_the_models(post: Any, host: ScriptedHost) -> None:
    """What the call leaves open is what the maker suggests."""
    host.sampling = {"temperature": 0.3}
    post("/api/chat", model="tiny", messages=HELLO, options={"repeat_last_n": -1})
    assert host.request.sampling.temperature == 0.3
    assert host.request.sampling.penalty_window == 1 << 20


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("/api/chat", {"messages": HELLO, "model": "absent"}, 404, "absent"),
        ("/api/chat", {"messages": HELLO, "format": "yaml"}, 400, "format"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["aGk="]}]}, 400, "images"),
        ("/api/chat", {"messages": HELLO, "options": {"temperature": "hot"}}, 400, "temperature"),
        ("/api/chat", {"messages": HELLO, "options": {"temperature": -1}}, 400, "temperature"),
        ("/api/chat", {"messages": HELLO, "options": {"stop": [1]}}, 400, "stop"),
        ("/api/chat", {"messages": HELLO, "options": {"num_predict": "many"}}, 400, "num_predict"),
        ("/api/chat", {"messages": HELLO, "think": "a lot"}, 400, "think"),
        ("/api/chat", {"messages": HELLO, "options": {"num_ctx": 0}}, 400, "num_ctx"),
        ("/api/generate", {"prompt": "x", "context": [1]}, 400, "context"),
        ("/api/embed", {"input": "x", "dimensions": 3}, 400, "dimensions"),
        ("/api/embed", {"input": [7]}, 400, "input"),
        ("/api/generate", {"prompt": "x", "suffix": "y"}, 400, "suffix"),
        ("/api/generate", {"prompt": 7}, 400, "prompt"),
    ],
)
def test_what_we_cannot_do_is_refused(
    post: Any, host: ScriptedHost, path: str, body: dict[str, Any], status: int, word: str
) -> None:
    """In this API's shape, with the status that fits, and never ignored."""
    got, lines = post(path, **({"model": "tiny"} | body))
    assert got == status
    assert word in lines[0]["error"] and len(lines) == 1


def test_a_failure_under_way_is_the_last_line(post: Any, host: ScriptedHost) -> None:
    """After the first words there is no status to give."""
    host.error, host.error_after = GenerationFailed("it broke"), 2
    status, lines = post("/api/chat", model="tiny", messages=HELLO)
    assert (status, lines[-1]) == (200, {"error": "it broke"})
    assert [line["message"]["content"] for line in lines[:-1]] == ["Hel", "lo "]


def test_a_client_that_leaves_cancels(address: tuple[ScriptedHost, str], host: ScriptedHost) -> None:
    """The engine is not kept busy for nobody."""
    host.deltas, host.pause_seconds = ["more "] * 1000, 0.01
    body = {"model": "tiny", "messages": HELLO}
    with httpx.stream("POST", f"{address[1]}/api/chat", json=body) as answer:
        next(answer.iter_lines())
    assert host.closed.wait(10)


def test_thinking_has_levels_and_a_field(client: Any, host: ScriptedHost) -> None:
    """A level goes to the template; what was thought is beside the answer."""
    host.deltas = ("<think>", "hm", "</think>", "yes")
    answer = client.chat("tiny", HELLO, think="high")
    assert host.request.template_options == {"enable_thinking": True, "reasoning_effort": "high"}
    assert (answer.message.thinking, answer.message.content) == ("hm", "yes")


@pytest.mark.parametrize(
    ("flags", "overflow"),
    [
        ({}, "refuse"),
        ({"truncate": True}, "truncate"),
        ({"shift": True}, "shift"),
        ({"shift": False}, "refuse"),
    ],
)
def test_what_is_too_long(post: Any, host: ScriptedHost, flags: dict[str, bool], overflow: str) -> None:
    """Text is left out only where the call says so."""
    post("/api/chat", model="tiny", messages=HELLO, **flags)
    assert host.request.overflow == overflow


@pytest.mark.parametrize("stream", [False, True])
def test_likelihoods(client: Any, host: ScriptedHost, stream: bool) -> None:
    """Each token that came, with others that might have, streamed or not."""
    answer = client.chat("tiny", HELLO, logprobs=True, top_logprobs=2, stream=stream)
    tokens = [token for part in (answer if stream else [answer]) for token in part.logprobs or ()]
    assert [token.token for token in tokens] == ["Hel", "lo ", "wörld"]
    assert [other.logprob for other in tokens[0].top_logprobs] == [-0.5, -1.5]


def test_a_context_is_loaded(client: Any, host: ScriptedHost, shelf: Shelf) -> None:
    """`num_ctx` loads a model that has less, with its trained context at the most; one that works stays."""
    client.chat("tiny", HELLO, options={"num_ctx": 1024})
    client.chat("tiny", HELLO, options={"num_ctx": 99999})
    assert shelf.loads == [("tiny", 1024, None), ("tiny", 4096, None)]
    shelf.residents = [resident()]
    client.chat("tiny", HELLO, options={"num_ctx": 2048})
    shelf.residents = [resident(requests=1)]
    client.chat("tiny", HELLO, options={"num_ctx": 4096})
    assert len(shelf.loads) == 2
    assert len(host.asked) == 4


def test_nothing_to_say_loads(client: Any, host: ScriptedHost, shelf: Shelf) -> None:
    """Without messages, or a prompt, the model is only loaded, and kept as the call says."""
    loaded = client.generate("tiny", keep_alive="5m")
    assert (loaded.done, loaded.done_reason, loaded.response) == (True, "load", "")
    assert client.chat("tiny", []).done_reason == "load"
    assert shelf.loads == [("tiny", None, 300), ("tiny", None, None)]
    assert host.asked == []


def test_nothing_to_say_unloads(client: Any, host: ScriptedHost, shelf: Shelf) -> None:
    """With a keep-alive of 0 it leaves, after its requests; one that is not there is not loaded for that."""
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    assert shelf.loads == []
    shelf.residents = [resident()]
    assert client.chat("tiny", [], keep_alive=0).done_reason == "unload"
    assert shelf.loads == [("tiny", None, 0)]


def test_embeddings(client: Any, host: ScriptedHost) -> None:
    """A vector for each text; fewer dimensions have length 1 again; the older call gives one."""
    answer = client.embed("tiny", ["one", "three"])
    assert [len(vector) for vector in answer.embeddings] == [2, 2]
    assert answer.prompt_eval_count == 8
    assert client.embed("tiny", "one", dimensions=1, truncate=False).embeddings == [[1.0]]
    assert [request.truncate for request in host.embedded] == [True, False]
    assert len(client.embeddings("tiny", "one").embedding) == 2
    assert client.embed("tiny", []).embeddings == []


def test_the_root_says_who_is_there(address: tuple[ScriptedHost, str]) -> None:
    """Clients look there first."""
    answer = httpx.get(address[1])
    assert (answer.status_code, answer.text) == (200, "qwenctl is running")
    assert httpx.head(address[1]).status_code == 200
