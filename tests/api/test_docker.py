"""Docker Model Runner's door, by hand: its client is a program of Docker's."""

import json
from collections.abc import Callable
from html import unescape
from typing import Any

import httpx
import pytest

from qwenctl import __version__
from qwenctl.api.library import Transferred
from qwenctl.errors import ReferenceUnknown, Unauthorized, Unreachable
from tests.api.api_builders import ScriptedHost
from tests.api.library_builders import BLOB, OTHER, TINY, Shelf, resident

Ask = Callable[..., httpx.Response]
JSON = {"accept": "application/json"}


@pytest.fixture
def ask(address: tuple[ScriptedHost, str], shelf: Shelf) -> Ask:
    """Sends a request to the door."""

    def send(method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        return httpx.request(method, address[1] + path, json=body, **options)

    return send


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    """The lines of a progress stream, decoded."""
    return [json.loads(line) for line in answer.text.splitlines()]


def test_list(ask: Ask) -> None:
    """Each model once, with its tags and what its config says."""
    other, tiny = ask("GET", "/models").json()
    assert (other["id"], tiny["id"]) == (OTHER.id, TINY.id)
    assert tiny == {
        "id": TINY.id,
        "tags": ["docker.io/ai/tiny:latest"],
        "created": 1700000000,
        "config": {
            "format": "gguf",
            "quantization": "Q4_K_M",
            "parameters": "7.62 B",
            "architecture": "qwen2",
            "size": "1.00MiB",
            "gguf": {"general.name": "Tiny"},
            "context_size": 4096,
        },
    }


def test_tag_and_show(ask: Ask) -> None:
    """A second tag is one of the same model, whichever of them is asked for."""
    made = ask("POST", "/models/docker.io/ai/tiny:latest/tag?repo=mine&tag=v1")
    assert (made.status_code, made.json()["target"]) == (201, "mine:v1")
    shown = ask("GET", "/models/mine:v1").json()
    assert (shown["id"], shown["tags"]) == (TINY.id, ["docker.io/ai/mine:v1", "docker.io/ai/tiny:latest"])


def test_create(ask: Ask, shelf: Shelf) -> None:
    """A pull tells bytes by layer, and ends in a success."""
    answer = ask("POST", "/models/create", {"from": "ai/tiny"}, headers=JSON)
    assert answer.headers["content-type"] == "application/json"
    *progress, last = lines(answer)
    assert [line["layer"] for line in progress] == [
        {"id": BLOB, "size": 900, "current": current} for current in (0, 450, 900)
    ]
    assert {(line["type"], line["total"], line["mode"]) for line in progress} == {("progress", 1000, "pull")}
    assert progress[1]["message"] == "Downloaded: 450 B"
    assert (last["type"], last["message"]) == ("success", "Model pulled successfully")
    assert shelf.transfers == [("pull", "ai/tiny", False)]


def test_create_of_what_is_there(ask: Ask, shelf: Shelf) -> None:
    """Its client prints the success, which says that nothing came."""
    shelf.steps = (shelf.steps[0], Transferred("tiny", TINY.id, 0))
    [line] = lines(ask("POST", "/models/create", {"from": "ai/tiny"}, headers=JSON))
    assert line["message"] == "Using cached model: 1000 B"


def test_who_accepts_no_json_gets_it_escaped(ask: Ask) -> None:
    """As a text that a browser shows and never runs."""
    answer = ask("POST", "/models/create", {"from": "ai/tiny"})
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("{&quot;")
    assert json.loads(unescape(answer.text.splitlines()[-1]))["type"] == "success"


def test_push(ask: Ask, shelf: Shelf) -> None:
    """As a pull, in the other direction."""
    *progress, last = lines(ask("POST", "/models/me/other:7B/push", headers=JSON))
    assert progress[0]["message"] == "Uploaded: 0 B"
    assert (last["message"], last["mode"]) == ("Model pushed successfully", "push")
    assert shelf.transfers == [("push", "me/other:7B", False)]


def test_a_pull_that_fails_under_way(ask: Ask, shelf: Shelf) -> None:
    """Its last line is the error."""
    shelf.error, shelf.error_after = Unreachable("the network went", hint="try again"), 2
    last = lines(ask("POST", "/models/create", {"from": "ai/tiny"}, headers=JSON))[-1]
    assert (last["type"], last["message"]) == ("error", "the network went; try again")


def test_delete(ask: Ask, shelf: Shelf) -> None:
    """The answer names what went, as Docker does; the model leaves memory before."""
    shelf.residents = [resident()]
    assert ask("DELETE", "/models/tiny").json() == [{"Untagged": "tiny"}, {"Deleted": TINY.id}]
    assert (shelf.stops, shelf.forced) == ([TINY.id], [False])


def test_delete_by_force(ask: Ask, shelf: Shelf) -> None:
    """A model at work goes only so."""
    shelf.residents = [resident(requests=1)]
    assert ask("DELETE", "/models/tiny").status_code == 409
    assert ask("DELETE", "/models/tiny?force=true").status_code == 200
    assert shelf.forced == [True]


def test_purge(ask: Ask, shelf: Shelf) -> None:
    """Everything leaves memory and store."""
    assert ask("DELETE", "/models/purge").status_code == 200
    assert (shelf.stops, shelf.stored) == ([None], {})


def test_engines(ask: Ask, shelf: Shelf) -> None:
    """What runs, what is loaded, and what all takes on disk."""
    shelf.residents = [resident(), resident(OTHER, requests=1, expires_seconds=None)]
    assert ask("GET", "/engines/status").json() == {"llama.cpp": "running"}
    tiny, other = ask("GET", "/engines/ps").json()
    assert (tiny["backend_name"], tiny["model_name"], tiny["mode"]) == ("llama.cpp", "tiny", "completion")
    assert (tiny["in_use"], tiny["loading"], tiny["keep_alive"]) == (False, False, "60s")
    assert (other["in_use"], other["keep_alive"]) == (True, "-1")
    assert ask("GET", "/engines/df").json()["models_disk_usage"] == 4711
    assert ask("GET", "/version").json() == {"version": __version__}


@pytest.mark.parametrize(
    ("body", "stopped"),
    [
        ({"all": True}, [TINY.id]),
        ({"models": ["docker.io/ai/tiny:latest", "me/other:7B", "absent"]}, [TINY.id]),
        ({"all": True, "backend": "vllm"}, []),
        ({"models": []}, []),
    ],
)
def test_unload(ask: Ask, shelf: Shelf, body: dict[str, Any], stopped: list[str]) -> None:
    """What idles leaves, by any of its names; what works stays."""
    shelf.residents = [resident(), resident(OTHER, requests=1)]
    assert ask("POST", "/engines/unload", body).json() == {"unloaded_runners": len(stopped)}
    assert shelf.stops == stopped


@pytest.mark.parametrize("path", ["/engines/_configure", "/engines/llama.cpp/_configure"])
def test_configure(ask: Ask, shelf: Shelf, path: str) -> None:
    """The context is kept, and the model loaded with it in the background."""
    body = {"model": "tiny", "context-size": 1024, "keep-alive": "10m"}
    assert ask("POST", path, body).status_code == 202
    [entry] = ask("GET", "/engines/_configure?model=tiny").json()
    assert (entry["Model"], entry["ModelID"], entry["Config"]) == ("tiny", TINY.id, {"context-size": 1024})
    assert (shelf.kept, shelf.loads) == (["600s"], [("tiny", None, None)])
    assert ask("GET", "/engines/_configure?model=me/other:7B").json() == []
    assert ask("POST", path, {"model": "tiny", "context-size": -1}).status_code == 202
    assert ask("GET", "/engines/_configure").json() == []


def test_configure_at_work(ask: Ask, shelf: Shelf) -> None:
    """A model at work is not taken from those who use it."""
    shelf.residents = [resident(requests=1)]
    assert ask("POST", "/engines/_configure", {"model": "tiny", "context-size": 1024}).status_code == 409
    assert shelf.set == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "word"),
    [
        ("GET", "/models/absent", None, 404, "absent"),
        ("GET", "/models/ai/tiny?remote=true", None, 400, "remote"),
        ("DELETE", "/models/absent", None, 404, "absent"),
        ("POST", "/models/tiny/tag?repo=mine", None, 400, "tag"),
        ("POST", "/models/tiny/repackage", {}, 501, "qwenctl package"),
        ("GET", "/models/tiny/export", None, 501, "archives"),
        ("POST", "/models/load", None, 501, "archives"),
        ("POST", "/models/create", {}, 400, "from"),
        ("POST", "/models/create", {"from": "x", "bearer-token": "t"}, 400, "qwenctl login"),
        ("POST", "/engines/_configure", {"model": "absent"}, 404, "absent"),
        ("POST", "/engines/_configure", {"model": "tiny", "context-size": 0}, 400, "context-size"),
        ("POST", "/engines/_configure", {"model": "tiny", "runtime-flags": ["-x"]}, 400, "runtime-flags"),
        ("POST", "/engines/_configure", {"model": "tiny", "keep-alive": "soon"}, 400, "soon"),
    ],
)
def test_refusals(ask: Ask, method: str, path: str, body: Any, status: int, word: str) -> None:
    """A line of text with the status that fits."""
    answer = ask(method, path, body)
    assert answer.status_code == status
    assert word in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("error", "status"),
    [(ReferenceUnknown("no"), 404), (Unauthorized("no"), 401), (Unreachable("no"), 502)],
)
def test_a_pull_that_cannot_begin(ask: Ask, shelf: Shelf, error: Any, status: int) -> None:
    """It has a status of its own, which its client tells apart."""
    shelf.error = error
    assert ask("POST", "/models/create", {"from": "ai/tiny"}).status_code == status
