"""Ollama's door to the store and to what is loaded, by its public client and by hand."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from qwenctl.errors import ReferenceUnknown, Unreachable
from tests.api.api_builders import ScriptedHost
from tests.api.library_builders import BLOB, TINY, Shelf, resident

ollama = pytest.importorskip("ollama", reason="the `ollama` package is not installed")


@pytest.fixture
def client(address: tuple[ScriptedHost, str], shelf: Shelf) -> Iterator[Any]:
    """The public client, pointed at us."""
    made = ollama.Client(host=address[1])
    yield made
    made._client.close()


def test_list(client: Any) -> None:
    """Every name with size, date and what it is."""
    other, tiny = client.list().models
    assert (other.model, tiny.model) == ("me/other:7B", "tiny")
    assert (tiny.size, tiny.digest) == (TINY.size_bytes, "1" * 64)
    assert tiny.modified_at == datetime.fromtimestamp(1700000000.5, UTC)
    assert (tiny.details.family, tiny.details.parameter_size) == ("qwen2", "7.62B")
    assert (tiny.details.format, tiny.details.quantization_level) == ("gguf", "Q4_K_M")


def test_show(client: Any) -> None:
    """Template, licence, parameters, GGUF keys without the vocabulary, and what it can be asked for."""
    shown = client.show("tiny")
    assert shown.capabilities == ["completion", "tools", "thinking"]
    assert (shown.license, shown.details.family) == ("Apache-2.0", "qwen2")
    assert shown.parameters.split() == ["temperature", "0.7", "top_k", "20"]
    assert shown.modelinfo["general.parameter_count"] == 7000
    assert shown.modelinfo["tokenizer.ggml.tokens"] is None
    assert shown.modelfile.startswith("FROM tiny")


def test_show_everything(address: tuple[ScriptedHost, str], shelf: Shelf) -> None:
    """Verbose has the vocabulary, too. A model that makes vectors says so; older clients say `name`."""
    shelf.template = ""
    shown = httpx.post(f"{address[1]}/api/show", json={"name": "tiny", "verbose": True}).json()
    assert shown["model_info"]["tokenizer.ggml.tokens"] == ["a"]
    assert shown["capabilities"] == ["embedding"]


def test_ps(client: Any, shelf: Shelf) -> None:
    """What is loaded: memory, how much of it on GPUs, context, and until when."""
    shelf.residents = [resident(), resident(expires_seconds=None)]
    first, second = client.ps().models
    assert (first.model, first.size, first.size_vram, first.context_length) == ("tiny", 2000, 1000, 2048)
    assert (first.details.parameter_size, first.digest) == ("7.62B", "1" * 64)
    assert second.expires_at.year == 9999
    assert first.expires_at.year < 9999


def test_pull(client: Any, shelf: Shelf) -> None:
    """Progress by digest, then the words that clients wait for."""
    lines = list(client.pull("tiny", stream=True, insecure=True))
    assert [line.status for line in lines] == [
        "pulling manifest",
        *["pulling abababababab"] * 3,
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert [(line.completed, line.total) for line in lines if line.digest == BLOB] == [
        (0, 900),
        (450, 900),
        (900, 900),
    ]
    assert shelf.transfers == [("pull", "tiny", True)]


def test_pull_in_one_piece(client: Any, shelf: Shelf) -> None:
    """Whole, the answer is the last word."""
    assert client.pull("tiny").status == "success"
    assert client.push("tiny").status == "success"
    assert [verb for verb, _, _ in shelf.transfers] == ["pull", "push"]


def test_push(client: Any) -> None:
    """As a pull, in the other direction."""
    statuses = [line.status for line in client.push("tiny", stream=True)]
    assert statuses[0] == "retrieving manifest"
    assert statuses[-2:] == ["pushing manifest", "success"]


def test_a_pull_that_cannot_begin(client: Any, shelf: Shelf) -> None:
    """It has a status of its own."""
    shelf.error = ReferenceUnknown("no such model there")
    with pytest.raises(ollama.ResponseError, match="no such model there") as caught:
        list(client.pull("nothing", stream=True))
    assert caught.value.status_code == 404


def test_a_pull_that_fails_under_way(client: Any, shelf: Shelf) -> None:
    """The error is the last line, which the client raises."""
    shelf.error, shelf.error_after = Unreachable("the network went"), 2
    with pytest.raises(ollama.ResponseError, match="the network went"):
        list(client.pull("tiny", stream=True))
    with pytest.raises(ollama.ResponseError, match="the network went"):
        client.pull("tiny")


def test_a_client_that_leaves_stops_the_pull(address: tuple[ScriptedHost, str], shelf: Shelf) -> None:
    """Nobody downloads for nobody."""
    shelf.steps, shelf.endless = shelf.steps[:1], True
    with httpx.stream("POST", f"{address[1]}/api/pull", json={"model": "tiny"}) as answer:
        next(answer.iter_lines())
    assert shelf.closed.wait(10)


def test_copy_and_delete(client: Any, shelf: Shelf) -> None:
    """A second name, and the end of the first: the content stays, and stays loaded."""
    shelf.residents = [resident()]
    client.copy("tiny", "mine")
    client.delete("tiny")
    assert sorted(shelf.stored) == ["me/other:7B", "mine"]
    assert shelf.stops == []


def test_the_last_name_unloads(client: Any, shelf: Shelf) -> None:
    """A model that goes leaves memory before."""
    shelf.residents = [resident()]
    client.delete("tiny")
    assert shelf.stops == [TINY.id]
    assert "tiny" not in shelf.stored


def test_a_model_at_work_stays(client: Any, shelf: Shelf) -> None:
    """Its users would lose it in mid-sentence."""
    shelf.residents = [resident(requests=2)]
    with pytest.raises(ollama.ResponseError, match="works on 2 requests") as caught:
        client.delete("tiny")
    assert caught.value.status_code == 409
    assert "tiny" in shelf.stored


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("POST", "/api/show", {"model": "absent"}, 404, "absent"),
        ("POST", "/api/show", {}, 400, "model"),
        ("DELETE", "/api/delete", {"model": "absent"}, 404, "absent"),
        ("POST", "/api/copy", {"source": "absent", "destination": "x"}, 404, "absent"),
        ("POST", "/api/copy", {"source": "tiny"}, 400, "destination"),
        ("POST", "/api/create", {"model": "x", "from": "tiny"}, 501, "qwenctl package"),
    ],
)
def test_refusals(
    address: tuple[ScriptedHost, str],
    shelf: Shelf,
    method: str,
    path: str,
    body: dict[str, Any],
    status: int,
    word: str,
) -> None:
    """In this API's shape, with the status that fits."""
    answer = httpx.request(method, address[1] + path, json=body)
    assert answer.status_code == status
    assert word in answer.json()["error"]
