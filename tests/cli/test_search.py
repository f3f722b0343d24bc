"""`qwenctl search`: the catalogue always, Docker Hub when it answers."""

import os
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.cli.conftest import Command
from tests.registry.running import running_app

PAGES = {
    "1": [
        {"name": "qwen2.5", "description": "Versatile", "pull_count": 120_000, "star_count": 7},
        {"name": "gemma3", "description": "Google's. And more", "pull_count": 90_000, "star_count": 3},
    ],
    "2": [{"name": "qwen9", "description": "\x1b[2Jbig\n", "pull_count": 5}, {"name": "NOT A NAME"}],
}


async def _repositories(request: Request) -> Response:
    page = request.query_params.get("page", "1")
    following = "/v2/repositories/ai/?page=2" if page == "1" else "http://127.0.0.1:1/elsewhere"
    return JSONResponse({"count": 4, "next": following, "results": PAGES[page]})


async def _nonsense(request: Request) -> Response:
    return PlainTextResponse("<html>", status_code=int(request.path_params["status"]))


@pytest.fixture
def hub() -> Iterator[str]:
    """A Docker Hub of two pages on loopback; under `/broken/STATUS` one that answers with something else."""
    routes = [
        Route("/v2/repositories/ai/", _repositories),
        Route("/broken/{status}/v2/repositories/ai/", _nonsense),
    ]
    with running_app(Starlette(routes=routes)) as address:
        os.environ["QWENCTL_HUB"] = f"http://{address}"
        yield f"http://{address}"


@pytest.fixture(autouse=True)
def _no_hub() -> None:
    os.environ["QWENCTL_HUB"] = "none"


def _names(qwenctl: Command, *words: str) -> list[str]:
    return [model["name"] for model in qwenctl("search", *words, "--json").data["models"]]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("qwen3",), ["qwen3", "qwen3-coder", "qwen3-embedding", "qwen3-reranker", "qwen3-vl"]),
        (("coder", "30b"), ["qwen3-coder"]),
        (("CODER 30B",), ["qwen3-coder"]),
        (("korean",), ["qwen2.5"]),
        (("7b-q4_k_m",), ["qwen2.5"]),
        (("no such thing",), []),
    ],
)
def test_words(qwenctl: Command, words: tuple[str, ...], names: list[str]) -> None:
    """Every word is somewhere in the card, in any case; names go before descriptions."""
    found = _names(qwenctl, *words)
    assert found[: len(names)] == names
    assert bool(found) == bool(names)


def test_everything(qwenctl: Command) -> None:
    """Without a word all families of the catalogue; `-q` is their names alone."""
    assert {"guide", "qwen2.5", "smollm2"} <= set(_names(qwenctl))
    assert qwenctl("search", "coder", "-q").out.splitlines()[0] == "qwen3-coder"


def test_what_is_here_is_marked(qwenctl: Command) -> None:
    """A family that has a variant in the store, and that variant."""
    qwenctl("pull", "guide:Q4_K_M")
    (guide,) = qwenctl("search", "guide", "--json").data["models"][:1]
    assert guide["pulled"] is True
    assert [v["name"] for v in guide["variants"] if v["pulled"]] == ["guide:Q4_K_M"]
    assert all(v["fits"] for v in guide["variants"])


def test_limit(qwenctl: Command) -> None:
    """The first of them, and how many more there are."""
    shown = qwenctl("search", "qwen3", "--limit", "2")
    assert len(shown.out.splitlines()) == 3
    assert "more: `--limit " in shown.err
    assert qwenctl("search", "qwen3", "-n", "2", "--json").data["total"] > 2


def test_nothing_is_no_error(qwenctl: Command) -> None:
    """Status 0, an empty result and a word."""
    shown = qwenctl("search", "zzzz", "--offline")
    assert (shown.status, shown.out, shown.err) == (0, "", "nothing was found\n")


class TestHub:
    """With Docker Hub, or something in its place."""

    def test_all_pages(self, qwenctl: Command, hub: str) -> None:
        """What it has beside the catalogue comes too, page by page; figures stand at what both know."""
        data = qwenctl("search", "--json").data
        by_name = {model["name"]: model for model in data["models"]}
        assert {"qwen2.5", "gemma3", "qwen9", "guide"} <= set(by_name)
        assert (by_name["qwen2.5"]["source"], by_name["qwen2.5"]["pulls"]) == ("catalogue", 120_000)
        assert (by_name["gemma3"]["source"], by_name["gemma3"]["variants"]) == ("docker hub", [])
        assert data["hub_problem"] is None
        assert by_name["qwen9"]["description"] == "[2Jbig"

    def test_the_table(self, qwenctl: Command, hub: str) -> None:
        """The Hub's rows have its line about them."""
        shown = qwenctl("search", "gemma")
        assert shown.out.splitlines()[1].split() == ["gemma3", "-", "-", "-", "90.00K", "Google's"]
        assert shown.err == ""

    def test_offline_asks_nobody(self, qwenctl: Command, hub: str) -> None:
        """`--offline` is the catalogue."""
        assert "gemma3" not in qwenctl("search", "--offline").out

    @pytest.mark.parametrize("where", ["http://127.0.0.1:1", "broken/500", "broken/200"])
    def test_a_hub_that_fails_is_a_note(self, qwenctl: Command, hub: str, where: str) -> None:
        """The catalogue is the answer, with the reason why there is no more; status 0."""
        os.environ["QWENCTL_HUB"] = where if where.startswith("http") else f"{hub}/{where}"
        shown = qwenctl("search", "qwen2.5")
        assert shown.status == 0
        assert "\nqwen2.5 " in shown.out
        assert shown.err.startswith("note: only the catalogue; Docker Hub: ")
        assert qwenctl("search", "--json").data["hub_problem"]
