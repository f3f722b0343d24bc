"""OpenAI's door with all behind it: the public client, a runner, a worker, llama.cpp, the guide model."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenctl.runner.supervisor import WORKER_ARGV
from tests.runner.runner_builders import ROOT, Files, service, settings_in
from tests.runtime.text_models import RANK, write_bert, write_qwen3

openai = pytest.importorskip("openai", reason="the `openai` package is not installed")

QUESTION = "How do I remove a model?"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]


def guide_weights() -> Path:
    """The guide model's weights in the built-in registry."""
    layout = ROOT / "registry"

    def read(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

    manifests = json.loads((layout / "index.json").read_text())["manifests"]
    names = {one["annotations"]["org.opencontainers.image.ref.name"]: one["digest"] for one in manifests}
    layers = read(names["qwenctl.internal/guide:latest"])["layers"]
    digest = next(layer["digest"] for layer in layers if "gguf" in layer["mediaType"])
    return Path(layout / "blobs" / digest.replace(":", "/"))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The public client, pointed at a runner that has the guide model, and tiny ones for search."""
    directory = tmp_path_factory.mktemp("runner")
    write_bert(directory / "rank.gguf", pooling=RANK, ranks=True)
    write_qwen3(directory / "embed.gguf")
    (directory / "guide.gguf").symlink_to(guide_weights())
    with (
        service(settings_in(directory), Files(directory), worker_argv=WORKER_ARGV, port=0) as (_, ready),
        openai.OpenAI(base_url=f"{ready.url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def chat(client: Any, **fields: Any) -> Any:
    """An answer to the question."""
    return client.chat.completions.create(
        **({"model": "guide", "messages": ASKED, "temperature": 0} | fields)
    )


def test_chat_and_responses_say_the_same(client: Any) -> None:
    """Streamed or whole, through either call, and a completion of the same prompt is deterministic, too."""
    whole = chat(client).choices[0].message.content
    assert "qwenctl rm" in whole
    deltas = [chunk.choices[0].delta.content or "" for chunk in chat(client, stream=True)]
    assert "".join(deltas) == whole
    asked: dict[str, Any] = {"model": "guide", "input": QUESTION, "temperature": 0}
    assert client.responses.create(**asked).output_text == whole
    events = client.responses.create(**asked, stream=True)
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == whole


def test_the_example_of_the_readme(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The program in the README prints an answer, streamed, once it is pointed at this runner."""
    shown = re.search(r"```python\n(from openai .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    names: dict[str, Any] = {}
    exec(shown[1].replace("http://127.0.0.1:12434/v1", str(client.base_url)), names)
    names["client"].close()
    assert "digest" in capsys.readouterr().out


def test_completions(client: Any) -> None:
    """Streamed or whole, with the prompt before it."""
    asked: dict[str, Any] = {
        "model": "guide",
        "prompt": ["Blobs", "Models"],
        "max_tokens": 8,
        "temperature": 0,
    }
    whole = [choice.text for choice in client.completions.create(**asked, echo=True).choices]
    assert [text[:5] for text in whole] == ["Blobs", "Model"]
    streamed: dict[int, str] = defaultdict(str)
    for chunk in client.completions.create(**asked, echo=True, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert [streamed[0], streamed[1]] == whole


def test_several_answers(client: Any) -> None:
    """Each is what its seed alone gives, whatever runs beside it; streamed, too."""
    fields: dict[str, Any] = {"temperature": 1.5, "max_tokens": 12}
    alone = [chat(client, seed=seed, **fields).choices[0].message.content for seed in (5, 6, 7)]
    answer = chat(client, seed=5, n=3, **fields)
    assert [choice.message.content for choice in answer.choices] == alone
    texts: dict[int, str] = defaultdict(str)
    for chunk in chat(client, seed=5, n=3, stream=True, **fields):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert [texts[index] for index in range(3)] == alone


def test_likelihoods(client: Any) -> None:
    """At temperature 0 each token is the likeliest one, and the tokens make the text."""
    choice = chat(client, logprobs=True, top_logprobs=3, max_tokens=6).choices[0]
    tokens = choice.logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == choice.message.content
    for token in tokens:
        assert token.token == token.top_logprobs[0].token
        assert len(token.top_logprobs) == 3
        assert token.logprob <= 0
    chunks = [chunk.choices[0].logprobs for chunk in chat(client, logprobs=True, max_tokens=6, stream=True)]
    streamed = [token for one in chunks if one for token in one.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_and_a_call(client: Any, stream: bool) -> None:
    """The form of an answer holds in both calls: JSON by a schema, and a call that is demanded."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    asked: dict[str, Any] = {"model": "guide", "input": QUESTION, "temperature": 0, "stream": stream}
    made = client.responses.create(**asked, text={"format": form})
    text = (list(made)[-1].response if stream else made).output_text
    assert isinstance(json.loads(text)["n"], int)
    tools = [{"type": "function", "name": "wait", "parameters": schema}]
    made = client.responses.create(**asked, tools=tools, tool_choice="required", parallel_tool_calls=False)
    (call,) = (list(made)[-1].response if stream else made).output
    assert (call.name, type(json.loads(call.arguments)["n"])) == ("wait", int)
    tools = [{"type": "function", "function": {"name": "wait", "parameters": schema}}]
    made = chat(client, tools=tools, tool_choice="required", parallel_tool_calls=False, stream=stream)
    messages = [chunk.choices[0].delta for chunk in made] if stream else [made.choices[0].message]
    (called,) = [one for message in messages for one in message.tool_calls or ()]
    assert isinstance(json.loads(called.function.arguments)["n"], int)


@pytest.mark.parametrize("model", ["embed", "guide"])
def test_embeddings(client: Any, model: str) -> None:
    """Vectors of length 1, the same for the same text; a text is more like itself than like another."""
    answer = client.embeddings.create(model=model, input=[QUESTION, "blobs", QUESTION])
    first, other, again = [one.embedding for one in answer.data]
    assert first == pytest.approx(again, abs=1e-3)
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-3)
    assert sum(a * b for a, b in zip(first, other, strict=True)) < 0.999


def test_reranking(client: Any) -> None:
    """The best first, and the same score for the same document."""
    asked = {"model": "rank", "query": "capital", "documents": ["paris", "rome", "paris", "berlin"]}
    results = client.post("/rerank", body=asked, cast_to=object)["results"]
    scores = {one["index"]: one["relevance_score"] for one in results}
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores[0] == pytest.approx(scores[2], rel=1e-3)


def test_responses_are_found_at_every_address(client: Any) -> None:
    """What was made under Docker's address is gone on from under the usual one."""
    docker = client.with_options(base_url=str(client.base_url).replace("/v1", "/engines/v1"))
    first = docker.responses.create(model="guide", input=QUESTION, max_output_tokens=5)
    second = client.responses.create(
        model="guide", input="And then?", previous_response_id=first.id, max_output_tokens=5
    )
    assert second.usage.input_tokens > first.usage.input_tokens
    assert docker.responses.retrieve(second.id) == second


def test_refusals_of_the_engine(client: Any) -> None:
    """A prompt that is too long has the API's code; what a model was not made for is 400."""
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "word " * 20000}])
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError):
        client.post("/rerank", body={"model": "guide", "query": "x", "documents": ["y"]}, cast_to=object)
    with pytest.raises(openai.BadRequestError, match="generates nothing"):
        chat(client, model="embed")
