"""The public client of OpenAI's API works on our door as it does on theirs."""

from typing import Any

import pytest

from qwenctl.errors import GenerationFailed
from tests.api.api_builders import ScriptedHost

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def test_models(client: Any, host: ScriptedHost) -> None:
    """The client lists and retrieves models."""
    assert [model.id for model in client.models.list()] == ["tiny", "me/other:7B"]
    assert client.models.retrieve("tiny").owned_by == "qwenctl"


def test_chat(client: Any, host: ScriptedHost) -> None:
    """The client reads a whole answer."""
    answer = client.chat.completions.create(model="tiny", messages=HELLO, temperature=0, max_tokens=9)
    assert answer.choices[0].message.content == "Hello wörld"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 10


def test_stream(client: Any, host: ScriptedHost) -> None:
    """The client reads a stream to its end, with the usage that it asked for."""
    options = {"include_usage": True}
    stream = client.chat.completions.create(model="tiny", messages=HELLO, stream=True, stream_options=options)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello wörld"
    assert chunks[-1].usage.prompt_tokens == 7


def test_errors(client: Any, host: ScriptedHost) -> None:
    """The client finds its own exception classes for our statuses, and our message in them."""
    with pytest.raises(openai.NotFoundError, match="`nowhere` is not here"):
        client.chat.completions.create(model="nowhere", messages=HELLO)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="tiny", messages=HELLO, n=40)
    assert (caught.value.code, caught.value.param) == ("invalid_request", "n")


def test_a_failure_under_way(client: Any, host: ScriptedHost) -> None:
    """An error in mid-stream is raised by the client, after the text that was there."""
    host.error, host.error_after = GenerationFailed("a decode step failed"), 1
    stream = client.chat.completions.create(model="tiny", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="a decode step failed"):
        list(stream)


@pytest.mark.parametrize("fields", [{}, {"n": 2, "logprobs": True}])
def test_the_clients_own_reader(client: Any, host: ScriptedHost, fields: dict[str, Any]) -> None:
    """The client's accumulating stream puts the pieces together, calls and likelihoods among them."""
    host.deltas = ("Look.\n", "<tool_call>", '{"name": "now"}', "</tool_call>")
    tools = [{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]
    with client.chat.completions.stream(model="tiny", messages=HELLO, tools=tools, **fields) as stream:
        for _ in stream:
            pass
        choices = stream.get_final_completion().choices
    for choice in choices:
        assert (choice.message.content, choice.finish_reason) == ("Look.", "tool_calls")
        assert [call.function.name for call in choice.message.tool_calls] == ["now"]
        assert not fields or len(choice.logprobs.content) == 4
    assert len(choices) == fields.get("n", 1)


def test_answers_that_are_parsed(client: Any, host: ScriptedHost) -> None:
    """The client's structured answers, whose schema it makes of a class, in chats and in responses."""
    pydantic = pytest.importorskip("pydantic")
    count = pydantic.create_model("Count", n=(int, ...))
    host.deltas = ('{"n":', " 3}")
    chat = client.chat.completions.parse(model="tiny", messages=HELLO, response_format=count)
    assert chat.choices[0].message.parsed.n == 3
    assert client.responses.parse(model="tiny", input="hello", text_format=count).output_parsed.n == 3
    assert host.request.sampling.grammar
