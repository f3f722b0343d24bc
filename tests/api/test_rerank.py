"""Reranking, in Jina's and Cohere's form."""

from typing import Any

import httpx
import pytest

from qwenctl.errors import InvalidRequest
from tests.api.api_builders import ScriptedHost

DOCUMENTS: list[Any] = ["a cat", "a dog and a cat", {"text": "a dog"}, "nothing"]


@pytest.fixture
def rank(address: tuple[ScriptedHost, str], host: ScriptedHost) -> Any:
    """Asks for a ranking."""

    def ask(path: str = "/v1/rerank", **fields: Any) -> httpx.Response:
        body = {"model": "tiny", "query": "dog cat", "documents": DOCUMENTS} | fields
        return httpx.post(address[1] + path, json=body)

    return ask


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_ranking(rank: Any, path: str) -> None:
    """The most relevant first, equals in the order of the call, each with its index there."""
    body = rank(path).json()
    assert body["model"] == "tiny"
    assert body["results"] == [
        {"index": 1, "relevance_score": 2.0},
        {"index": 0, "relevance_score": 1.0},
        {"index": 2, "relevance_score": 1.0},
        {"index": 3, "relevance_score": 0.0},
    ]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] == 39


def test_the_best_with_their_texts(rank: Any) -> None:
    """`top_n` of them, and on request the documents."""
    results = rank(top_n=1, return_documents=True).json()["results"]
    assert results == [{"index": 1, "relevance_score": 2.0, "document": {"text": "a dog and a cat"}}]
    assert len(rank(top_n=99).json()["results"]) == 4


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": ["x"] * 2049}, "documents"),
        ({"documents": [5]}, "documents[0]"),
        ({"documents": [{"title": "x"}]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
    ],
)
def test_refusals(rank: Any, fields: dict[str, Any], param: str) -> None:
    """400 with the field that is to blame."""
    answer = rank(**fields)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_model_that_does_not_rank(rank: Any, host: ScriptedHost) -> None:
    """The engine's refusal reaches the client."""
    host.error = InvalidRequest("this model does not rank")
    assert rank().status_code == 400
    assert rank(model="nowhere").status_code == 404
