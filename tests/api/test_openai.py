"""OpenAI's door over a scripted host, through a real server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from qwenctl.api import exchange
from qwenctl.errors import GenerationFailed, PromptTooLong, WorkerDied
from tests.api.api_builders import ScriptedHost, call, sse, user


@pytest.fixture
def client(address: tuple[ScriptedHost, str]) -> Iterator[httpx.Client]:
    """A client of the door."""
    with httpx.Client(base_url=address[1]) as made:
        yield made


def post(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    """The answer to a chat completion."""
    return client.post("/v1/chat/completions", json=body)


class TestModels:
    """`GET /v1/models` and `GET /v1/models/NAME`."""

    def test_list(self, client: httpx.Client, host: ScriptedHost) -> None:
        """All models, loaded or not, in the API's form."""
        body = client.get("/v1/models").json()
        assert body["object"] == "list"
        assert body["data"][0] == {
            "id": "tiny",
            "created": 1700000000,
            "object": "model",
            "owned_by": "qwenctl",
        }

    def test_one(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A name with slash and colon is one path parameter."""
        assert client.get("/v1/models/me/other:7B").json()["id"] == "me/other:7B"

    def test_unknown(self, client: httpx.Client, host: ScriptedHost) -> None:
        """An unknown model is 404 with the code that clients compare with."""
        response = client.get("/v1/models/nowhere")
        assert response.status_code == 404
        assert response.json()["error"] == {
            "message": "`nowhere` is not here",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
            "hint": "pull it first",
        }


class TestWhole:
    """`POST /v1/chat/completions` without a stream."""

    def test_answer(self, client: httpx.Client, host: ScriptedHost) -> None:
        """The whole text, the reason and the counts; the engine got the messages."""
        body = post(client, call("hello")).json()
        assert body["object"] == "chat.completion"
        assert body["model"] == "tiny"
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello wörld"},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ]
        assert body["usage"] == {
            "prompt_tokens": 7,
            "completion_tokens": 3,
            "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }
        assert host.request.messages == (user("hello"),)

    def test_length(self, client: httpx.Client, host: ScriptedHost) -> None:
        """An answer that met its limit says so."""
        host.reason = "length"
        assert post(client, call()).json()["choices"][0]["finish_reason"] == "length"

    @pytest.mark.parametrize(
        ("keep_alive", "seconds"),
        [("5m", 300.0), (0, 0.0), (-1, float("inf")), ("-1", float("inf")), (None, None)],
    )
    def test_keep_alive(
        self, client: httpx.Client, host: ScriptedHost, keep_alive: object, seconds: float | None
    ) -> None:
        """How long the model stays may come with a request, as seconds or as text."""
        assert post(client, call(keep_alive=keep_alive)).status_code == 200
        assert host.asked[-1][1] == seconds

    def test_the_models_own_sampling(self, client: httpx.Client, host: ScriptedHost) -> None:
        """What the call leaves open is as the model's maker suggests; what it says counts."""
        host.sampling = {"temperature": 0.0, "top_k": 7}
        post(client, call(top_k=5))
        request, _ = host.asked[-1]
        assert (request.sampling.temperature, request.sampling.top_k) == (0.0, 5)

    def test_unknown_fields_are_ignored(self, client: httpx.Client, host: ScriptedHost) -> None:
        """Clients send fields that we do not know; that is no reason to fail."""
        assert post(client, call(user="me", store=False, metadata={"a": 1})).status_code == 200

    def test_client_that_leaves(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A client that does not wait for the answer cancels it."""
        host.deltas, host.pause_seconds = ["x"] * 1000, 0.01
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=call(), timeout=0.1)
        assert host.closed.wait(2)


class TestRefused:
    """Requests that are wrong, in the API's error shape."""

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            (call(max_tokens="many"), "max_tokens"),
            (call(messages="hi"), "messages"),
            (call(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
            (
                call(messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
                "messages[0].content[0].type",
            ),
            ({"messages": []}, None),
            (call(n=17), "n"),
            (call(keep_alive="soon"), "keep_alive"),
            (call(stop=["x"] * 100), "stop"),
            (call(overflow="wrap"), "overflow"),
            (call(modalities=["text", "audio"]), "modalities"),
        ],
    )
    def test_wrong_values(
        self, client: httpx.Client, host: ScriptedHost, body: dict[str, Any], param: str | None
    ) -> None:
        """A wrong type or value is 400 with the path of the field; nothing reaches the engine."""
        response = post(client, body)
        error = response.json()["error"]
        assert (response.status_code, error["type"]) == (400, "invalid_request_error")
        assert error["param"] == param
        assert host.asked == []

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b'{"model": "\xff"}', b"null"]
    )
    def test_what_is_not_a_request(self, client: httpx.Client, host: ScriptedHost, body: bytes) -> None:
        """Bytes that are no JSON object of ours are 400, never 500."""
        response = client.post("/v1/chat/completions", content=body)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_request"

    def test_a_body_over_the_limit(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A body is read up to the limit only."""
        body = json.dumps(call("x" * exchange.BODY_LIMIT_BYTES)).encode()
        response = client.post("/v1/chat/completions", content=body)
        assert response.status_code == 413
        assert "larger than" in response.json()["error"]["message"]

    def test_a_prompt_that_is_too_long(self, client: httpx.Client, host: ScriptedHost) -> None:
        """The engine's refusal has a status of its own, in a stream as well, and the API's code."""
        host.error = PromptTooLong("the prompt has 9 tokens, the context holds 8")
        for stream in (False, True):
            response = post(client, call(stream=stream))
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "context_length_exceeded"

    def test_a_failure_of_ours(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A worker that died is 503: the same request may succeed the next time."""
        host.error = WorkerDied("the worker ended", hint="try again")
        response = post(client, call())
        assert response.status_code == 503
        assert response.json()["error"]["type"] == "server_error"

    def test_a_bug_of_ours(self, client: httpx.Client, host: ScriptedHost) -> None:
        """Even an error that nobody foresaw is JSON, tells no details, and leaves the server alive."""
        host.error = ZeroDivisionError("secret")
        for stream in (False, True):
            response = post(client, call(stream=stream))
            assert (response.status_code, response.json()["error"]["code"]) == (500, "bug")
            assert "secret" not in response.text

    def test_an_unknown_model(self, client: httpx.Client, host: ScriptedHost) -> None:
        """The model of a request is looked up before anything is streamed."""
        for stream in (False, True):
            assert post(client, call(model="nowhere", stream=stream)).status_code == 404


class TestStream:
    """`POST /v1/chat/completions` as server-sent events."""

    def test_chunks(self, client: httpx.Client, host: ScriptedHost) -> None:
        """First the role, then the text as it comes, then the reason, then `[DONE]`."""
        response = post(client, call(stream=True))
        assert response.headers["content-type"].startswith("text/event-stream")
        *chunks, done = sse(response.text)
        assert done == "[DONE]"
        assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
            {"role": "assistant", "content": ""},
            {"content": "Hel"},
            {"content": "lo "},
            {"content": "wörld"},
            {},
        ]
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
        assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in chunks}) == 1
        assert all("usage" not in chunk for chunk in chunks)

    def test_usage(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A client that asks for it gets the counts in a last chunk without choices."""
        body = call(stream=True, stream_options={"include_usage": True})
        last, done = sse(post(client, body).text)[-2:]
        assert (last["choices"], last["usage"]["total_tokens"], done) == ([], 10, "[DONE]")

    def test_the_same_text_as_whole(self, client: httpx.Client, host: ScriptedHost) -> None:
        """Streamed or not, the text is the same, line breaks and astral characters included."""
        host.deltas = ["data: x\n\n", "🙂\r", "\u2028", "é\x00"]
        whole = post(client, call()).json()["choices"][0]["message"]["content"]
        chunks = [chunk for chunk in sse(post(client, call(stream=True)).text) if chunk != "[DONE]"]
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == whole

    def test_a_failure_under_way(self, client: httpx.Client, host: ScriptedHost) -> None:
        """An error in mid-stream is the last event, without `[DONE]`, after the text that was there."""
        host.error, host.error_after = GenerationFailed("a decode step failed"), 2
        *chunks, last = sse(post(client, call(stream=True)).text)
        assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["", "Hel", "lo "]
        assert last["error"]["message"] == "a decode step failed"

    def test_client_that_leaves(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A client that closes the stream cancels the generation at once."""
        host.deltas, host.pause_seconds = ["x"] * 1000, 0.01
        with client.stream("POST", "/v1/chat/completions", json=call(stream=True)) as response:
            lines = response.iter_lines()
            next(lines)
            assert not host.closed.is_set()
        assert host.closed.wait(2)

    def test_text_arrives_as_it_is_made(self, client: httpx.Client, host: ScriptedHost) -> None:
        """A chunk is sent before the next one exists."""
        host.pause_seconds = 0.2
        with client.stream("POST", "/v1/chat/completions", json=call(stream=True)) as response:
            lines = (line for line in response.iter_lines() if "Hel" in line)
            assert next(lines)
            assert not host.closed.is_set()
