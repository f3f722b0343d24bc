"""What no client should send, at a runner with all of its doors: each refuses it in its own words."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.library_builders import Shelf
from tests.runner.runner_builders import service, settings_in

MESSAGES = '"messages": [{"role": "user", "content": "hi"}]'
BODIES = {
    "/v1/chat/completions": f'{{"model": "echo", {MESSAGES}, "max_tokens": %s}}',
    "/v1/completions": '{"model": "echo", "prompt": "a", "max_tokens": %s}',
    "/v1/responses": '{"model": "echo", "input": "a", "metadata": {"a": %s}}',
    "/v1/embeddings": '{"model": "echo", "input": "a", "keep_alive": %s}',
    "/v1/rerank": '{"model": "echo", "query": "a", "documents": ["b"], "top_n": %s}',
    "/v1/messages": f'{{"model": "echo", {MESSAGES}, "max_tokens": %s}}',
    "/engines/v1/messages": f'{{"model": "echo", "max_tokens": 1, {MESSAGES}, "mcp_servers": [%s]}}',
    "/api/chat": f'{{"model": "echo", {MESSAGES}, "options": {{"num_predict": %s}}}}',
    "/api/generate": '{"model": "echo", "prompt": "a", "options": {"temperature": %s}}',
    "/models/create": '{"from": "echo", "keep_alive": %s}',
    "/qwenctl/v1/load": '{"model": "echo", "keep_alive": %s}',
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Plain HTTP to the runner's address."""
    directory = tmp_path_factory.mktemp("runner")
    with (
        service(settings_in(directory), open_library=Shelf, port=0) as (_, ready),
        httpx.Client(base_url=str(ready.url), timeout=20) as made,
    ):
        yield made


def message(answer: httpx.Response, path: str) -> str:
    """The words of a refusal, read as the door's own clients do."""
    if path in ("/engines/unload", "/engines/status", "/version") or path.startswith("/models"):
        assert answer.headers["content-type"].startswith("text/plain")
        return answer.text
    body = answer.json()
    if "/v1/messages" in path or path.startswith("/anthropic"):
        assert body["type"] == "error"
        return str(body["error"]["message"])
    if path.startswith("/api") or path == "/":
        return str(body["error"])
    if path.startswith(("/qwenctl", "/health", "/metrics")):
        assert body["type"] == "failed"
        return f"{body['message']}; {body['hint']}"
    error = body["error"]
    assert error["type"] == "invalid_request_error"
    return f"{error['message']}; {error.get('hint')}"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("number", ["1" + "0" * 400, "-" + "9" * 30, "18446744073709551616"])
def test_numbers_beyond_measure(client: httpx.Client, path: str, number: str) -> None:
    """A whole number that no engine takes is 400, wherever it stands."""
    answer = client.post(path, content=BODIES[path] % number)
    assert answer.status_code == 400
    assert "64 bits" in message(answer, path)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("depth", [500, 3000, 100_000])
def test_depths_beyond_measure(client: httpx.Client, path: str, depth: int) -> None:
    """What is nested too deeply to be read, or is of the wrong type however deep, is 400."""
    answer = client.post(path, content=BODIES[path] % ("[" * depth + "]" * depth))
    assert answer.status_code == 400 or depth == 500
    if answer.status_code != 200:
        assert message(answer, path)


@pytest.mark.parametrize("depth", [300, 900, 1500])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_deep_schemas(client: httpx.Client, depth: int, choice: str) -> None:
    """Tools may be as deep as they like: they are followed or refused."""
    deep = '{"type": "object", "properties": {"a": ' * depth + "{}" + "}}" * depth
    tools = f'[{{"type": "function", "function": {{"name": "f", "parameters": {deep}}}}}]'
    body = f'{{"model": "echo", {MESSAGES}, "tools": {tools}, "tool_choice": "{choice}"}}'
    assert client.post("/v1/chat/completions", content=body).status_code in (200, 400)


@pytest.mark.parametrize("path", BODIES)
def test_compressed_bodies(client: httpx.Client, path: str) -> None:
    """They are refused by name, not taken for broken JSON."""
    answer = client.post(path, content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert answer.status_code == 400
    assert "`gzip`" in message(answer, path)


def test_what_is_no_json_is_called_by_its_name(client: httpx.Client) -> None:
    """The complaint spells JSON as everybody does."""
    answer = client.post("/v1/chat/completions", content=b"{")
    assert "JSON" in message(answer, "/v1") or "input data was truncated" in message(answer, "/v1")
    assert "jSON" not in client.post("/v1/chat/completions", content=b"x").text


METHODS = [
    ("GET", "/v1/chat/completions", "POST"),
    ("DELETE", "/v1/models", "GET, HEAD"),
    ("PUT", "/v1/responses/x", "DELETE, GET, HEAD"),
    ("GET", "/v1/messages", "POST"),
    ("GET", "/engines/llama.cpp/v1/messages", "POST"),
    ("POST", "/anthropic/v1/models", "GET, HEAD"),
    ("GET", "/api/chat", "POST"),
    ("POST", "/api/delete", "DELETE"),
    ("POST", "/", "GET, HEAD"),
    ("PUT", "/models", "GET, HEAD"),
    ("PUT", "/models/create", "DELETE, GET, HEAD, POST"),
    ("GET", "/engines/unload", "POST"),
    ("POST", "/engines/status", "GET, HEAD"),
    ("OPTIONS", "/version", "GET, HEAD"),
    ("POST", "/health", "GET, HEAD"),
    ("DELETE", "/qwenctl/v1/load", "POST"),
    ("FOO", "/metrics", "GET, HEAD"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), METHODS)
def test_other_methods(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    """405 in the door's own form, with the methods that are taken (RFC 9110, 15.5.6)."""
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert allowed in message(answer, path)


@pytest.mark.parametrize("path", ["/v1/nope", "/engines/v1/messages/nope", "/api/nope", "/nope", "/v1"])
def test_unknown_paths(client: httpx.Client, path: str) -> None:
    """404 in the form of the door that they would belong to."""
    answer = client.post(path, content=b"{}")
    assert answer.status_code == 404
    assert "the doors are" in message(answer, path)


@pytest.mark.parametrize(
    "path", ["/v1/models/", "/models//", "/api/tags/", "/health/", "/engines/v1/models/"]
)
def test_a_slash_at_the_end(client: httpx.Client, path: str) -> None:
    """It makes no difference; nobody is sent to another address."""
    assert client.get(path).json() == client.get(path.rstrip("/")).json()


def test_models_under_anthropics_address(client: httpx.Client) -> None:
    """Under `/anthropic` models are told in its form without its header, too."""
    assert client.get("/anthropic/v1/models").json()["data"][0]["type"] == "model"
    assert client.get("/anthropic/v1/models/echo").json()["id"] == "echo"
    headers = {"anthropic-version": "2023-06-01"}
    assert client.put("/v1/models", headers=headers).json()["type"] == "error"


@pytest.mark.parametrize("value", ['"soon"', '"-soon"', '""', '"5x"'])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_keep_alive_that_is_no_duration(client: httpx.Client, path: str, value: str) -> None:
    """The field is to blame."""
    body = f'{{"model": "echo", "input": "a", {MESSAGES}, "keep_alive": {value}}}'
    answer = client.post(path, content=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "keep_alive")


@pytest.mark.parametrize("value", ["1e300", '"999999999999d"'])
def test_a_keep_alive_of_ages(client: httpx.Client, value: str) -> None:
    """It is as good as for ever, for those who look, too."""
    body = f'{{"model": "echo", "keep_alive": {value}}}'
    assert client.post("/api/generate", content=body).status_code == 200
    assert client.get("/api/ps").json()["models"][0]["expires_at"].startswith("9999")
    assert client.get("/engines/ps").status_code == client.get("/metrics").status_code == 200


def test_a_response_that_is_not_here(client: httpx.Client) -> None:
    """OpenAI's own code, and the field."""
    body = {"model": "echo", "input": "a", "previous_response_id": "resp_x"}
    error: dict[str, Any] = client.post("/v1/responses", json=body).json()["error"]
    assert (error["code"], error["param"]) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "%2e%2e/x", "%00", "%ff%fe", "a%20b", "..%5c..%5cx", "a" * 5000]
)
@pytest.mark.parametrize("start", ["/v1/models/", "/models/", "/engines/v1/models/", "/anthropic/v1/models/"])
def test_names_that_are_none(client: httpx.Client, start: str, name: str) -> None:
    """A name in an address is a name, not a path, and nothing by that name is here."""
    url = str(client.base_url).rstrip("/")
    answer = httpx.get(httpx.URL(url + start + name))
    assert answer.status_code in (400, 404)
    assert message(answer, start)


@pytest.mark.parametrize("host", ["evil@localhost", "localhost/evil", "localhost?x", "localhost#x"])
def test_tricks_with_the_host(client: httpx.Client, host: str) -> None:
    """What only begins or ends like this machine's name is another's."""
    answer = client.get("/v1/models", headers={"host": host})
    assert answer.status_code == 403
    assert host in message(answer, "/v1/models")


def test_a_request_that_names_no_host(client: httpx.Client) -> None:
    """HTTP/1.0 allows it; the refusal says what is missing."""
    url = client.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.0\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 403") and b"names no host" in answer
