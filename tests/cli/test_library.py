"""The runner's library over a real store and a real registry, and the doors over it by the public client."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from qwenctl.api.library import BlobAt, Progress, Resolved, Transferred
from qwenctl.cli.library import TRANSFERS, StoreLibrary
from qwenctl.cli.models import StoreModels
from qwenctl.errors import (
    Conflict,
    DiskFull,
    InvalidReference,
    MemoryShort,
    ReferenceUnknown,
    Unauthorized,
    Unreachable,
    UsageError,
)
from qwenctl.oci.reference import Reference
from qwenctl.registry.app import RegistryApp
from qwenctl.settings import Settings
from qwenctl.store.store import Store
from tests.builders import model
from tests.cli.vast_models import Guarded, put_vast
from tests.registry.running import running_app, running_registry
from tests.runner.runner_builders import eventually, service, settings_in

LATEST = Reference.parse("me/model:latest")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a user of this test's own."""
    return settings_in(tmp_path)


@pytest.fixture
def library(settings: Settings) -> StoreLibrary:
    """A library over an empty store."""
    return StoreLibrary(settings)


@pytest.fixture
def remote(tmp_path: Path) -> Store:
    """What the registry has: a model of some blobs."""
    store = Store.open(tmp_path / "remote")
    model(1).put(store, LATEST)
    return store


@pytest.fixture
def name(remote: Store) -> Iterator[str]:
    """The full name of that model, while its registry runs."""
    with running_registry(remote) as address:
        yield f"{address}/me/model"


async def all_of(steps: AsyncGenerator[Progress]) -> list[Progress]:
    """Every step of a transfer."""
    return [step async for step in steps]


def pulled(library: StoreLibrary, name: str) -> Sequence[Progress]:
    """The steps of a pull."""

    async def pull() -> list[Progress]:
        return await all_of(library.pull(name))

    return asyncio.run(pull())


def test_pull(library: StoreLibrary, name: str) -> None:
    """What the name means, every blob to its end, and what came; the second time nothing does."""
    made = model(1)
    resolved, *blobs, last = pulled(library, name)
    id = str(made.manifest.descriptor.digest)
    assert resolved == Resolved(id, made.manifest.content_size)
    assert isinstance(last, Transferred)
    assert (last.name, last.id, last.moved_bytes) == (name, id, made.manifest.content_size)
    ends = {step.digest: step.position_bytes == step.size_bytes for step in blobs if isinstance(step, BlobAt)}
    assert set(ends) == {str(item.digest) for item in made.manifest.successors}
    assert all(ends.values())
    assert pulled(library, name)[-1] == replace(last, moved_bytes=0)


def test_models_and_details(library: StoreLibrary, name: str) -> None:
    """A row for each name; the details have the keys of the file itself."""
    pulled(library, name)
    asyncio.run(library.tag(name, "mine:v1"))
    mine, other = asyncio.run(library.models())
    assert {mine.name, other.name} == {"mine:v1", name}
    assert (mine.id, mine.size_bytes) == (other.id, model(1).manifest.content_size)
    assert mine.changed_seconds > 1_700_000_000
    shown = asyncio.run(library.show(mine.id))
    assert shown.metadata["general.architecture"] == mine.architecture
    assert shown.parameter_count > 0
    assert sorted(shown.names) == sorted(["docker.io/ai/mine:v1", f"{name}:latest"])


def test_the_guide(library: StoreLibrary) -> None:
    """The built-in registry needs no network; the guide has a template and a licence."""
    pulled(library, "guide:Q8_0")
    shown = asyncio.run(library.show("guide:Q8_0"))
    assert "messages" in shown.template
    assert "Apache" in shown.license
    assert (shown.model.architecture, shown.embeds) == ("qwen2", False)


class Gate:
    """A registry that sends no blob before it is opened."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting: set[str] = set()
        self.most = 0
        """The most repositories that waited at one time."""
        self.open = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, in time."""
        repository, of_blob, _ = scope.get("path", "").partition("/blobs/")
        if of_blob:
            self._waiting.add(repository)
            self.most = max(self.most, len(self._waiting))
            await asyncio.to_thread(self.open.wait, 20)
            self._waiting.discard(repository)
        await self._app(scope, receive, send)


def test_a_pull_that_is_closed_stops(library: StoreLibrary, remote: Store) -> None:
    """Nothing gets a name, and its thread ends; the next pull brings it all."""
    gate = Gate(RegistryApp(remote))
    with running_app(gate) as address:
        name = f"{address}/me/model"

        async def begin() -> None:
            async with aclosing(library.pull(name, force=True)) as steps:  # no header is read before
                assert isinstance(await anext(steps), Resolved)

        asyncio.run(begin())
        gate.open.set()
        for thread in threading.enumerate():
            if thread.name == "transfer":
                thread.join(20)
                assert not thread.is_alive()
        assert asyncio.run(library.models()) == []
        assert isinstance(pulled(library, name)[-1], Transferred)


async def _all_at_once(library: StoreLibrary, names: Sequence[str], gate: Gate) -> None:
    """Pull all; the gate opens when each had the time to reach it."""
    pulls = [asyncio.create_task(all_of(library.pull(name, force=True))) for name in names]
    await asyncio.sleep(0.5)
    gate.open.set()
    await asyncio.gather(*pulls)


def test_few_transfers_at_once(library: StoreLibrary, tmp_path: Path) -> None:
    """Further ones wait for their turn, and get it."""
    there = Store.open(tmp_path / "many")
    repositories = [f"me/model{number}" for number in range(TRANSFERS + 2)]
    for number, repository in enumerate(repositories):
        model(number + 1).put(there, Reference.parse(f"{repository}:latest"))
    gate = Gate(RegistryApp(there))
    with running_app(gate) as address:
        asyncio.run(_all_at_once(library, [f"{address}/{name}" for name in repositories], gate))
    assert gate.most == TRANSFERS
    assert len(asyncio.run(library.models())) == len(repositories)


@pytest.fixture
def vast(tmp_path: Path) -> Iterator[str]:
    """The name of a model that no machine has room for, at a registry that does not send it."""
    there = Store.open(tmp_path / "vast")
    put_vast(there, "me/model:vast")
    with running_app(Guarded(RegistryApp(there))) as address:
        yield f"{address}/me/model:vast"


def test_what_does_not_fit_is_not_pulled(library: StoreLibrary, vast: str, settings: Settings) -> None:
    """Both numbers and what may be done; forced, it is tried, and it is not the memory that ends it."""
    with pytest.raises(MemoryShort, match=r"needs 1\.6\d TiB of RAM, .* can be used") as refused:
        pulled(library, vast)
    assert f"`qwenctl fit {vast} --all` shows the variants" in str(refused.value.hint)
    assert not any(path.is_file() for path in (settings.store / "ingest").rglob("*"))

    async def forced() -> None:
        await all_of(library.pull(vast, force=True))

    with pytest.raises((DiskFull, Unauthorized)):
        asyncio.run(forced())


def test_a_door_refuses_what_does_not_fit(settings: Settings, library: StoreLibrary, vast: str) -> None:
    """Status 507 in the shape of each: Docker's in a line of text, Ollama's as JSON; each may be forced."""
    with (
        service(settings, StoreModels(settings), port=0, open_library=lambda: library) as (_, ready),
        httpx.Client(base_url=str(ready.url), timeout=20) as http,
    ):
        docker = http.post("/models/create", json={"from": vast})
        assert docker.status_code == 507 and "TiB of RAM" in docker.text
        ollama = http.post("/api/pull", json={"model": vast})
        assert ollama.status_code == 507 and "TiB of RAM" in ollama.json()["error"]
        forced = [
            http.post("/models/create", json={"from": vast, "ignore-runtime-memory-check": True}),
            http.post("/api/pull", json={"model": vast, "force": True}),
        ]
    assert not any("of RAM" in answer.text for answer in forced)


def test_remove(library: StoreLibrary, name: str) -> None:
    """A name goes; the content with the last one."""
    pulled(library, name)
    asyncio.run(library.tag(name, "mine:v1"))
    first = asyncio.run(library.remove(name))
    assert (first.untagged, first.deleted) == ((name,), ())
    second = asyncio.run(library.remove("mine:v1"))
    assert str(model(1).manifest.descriptor.digest) in second.deleted


def test_remove_by_id(library: StoreLibrary, name: str) -> None:
    """An id with several names wants force, which takes them all."""
    pulled(library, name)
    id = asyncio.run(library.tag(name, "mine:v1")).id
    with pytest.raises(Conflict, match="several names"):
        asyncio.run(library.remove(id))
    assert len(asyncio.run(library.remove(id, force=True)).untagged) == 2
    assert asyncio.run(library.models()) == []


def test_push(library: StoreLibrary, name: str, remote: Store) -> None:
    """A model goes to the registry in its name; one of the built-in registry nowhere."""
    pulled(library, name)
    other = name.replace("/me/model", "/me/other:v1")
    asyncio.run(library.tag(name, other))

    async def push(which: str) -> list[Progress]:
        return await all_of(library.push(which))

    assert isinstance(asyncio.run(push(other))[-1], Transferred)
    assert remote.resolve(Reference.parse("me/other:v1"))
    pulled(library, "guide:Q8_0")
    with pytest.raises(UsageError, match="belongs to no registry"):
        asyncio.run(push("guide:Q8_0"))


def test_errors(library: StoreLibrary, name: str) -> None:
    """Of names, of networks, and of what is not here."""
    with pytest.raises(ReferenceUnknown, match="-not` at `http://127"):
        pulled(library, name + "-not")
    with pytest.raises(ReferenceUnknown, match="`guide:q4km` in the built-in registry") as slip:
        pulled(library, "guide:q4km")
    assert "`guide:Q4_K_M`" in str(slip.value.hint)
    with pytest.raises(Unreachable):
        pulled(library, "127.0.0.1:1/me/model")
    with pytest.raises(InvalidReference):
        pulled(library, "no name")
    with pytest.raises(ReferenceUnknown):
        asyncio.run(library.show("absent"))
    pulled(library, name)
    with pytest.raises(InvalidReference, match="pins a digest"):
        asyncio.run(library.tag(name, f"x@sha256:{'0' * 64}"))


def test_configure(library: StoreLibrary, name: str) -> None:
    """A context is kept by the full name, where `qwenctl configure` keeps it, until it is the model's own."""
    pulled(library, name)
    asyncio.run(library.configure(name, context_length=64, keep_alive="10m"))
    assert asyncio.run(library.contexts()) == {f"{name}:latest": 64}
    asyncio.run(library.configure(name, context_length=None, keep_alive=None))
    assert asyncio.run(library.contexts()) == {}


def test_the_disk(library: StoreLibrary, name: str) -> None:
    """What the store holds."""
    pulled(library, name)
    assert asyncio.run(library.disk_bytes()) >= model(1).manifest.content_size


def test_everything_through_the_door(settings: Settings, library: StoreLibrary, name: str) -> None:
    """Ollama's client pulls from a registry, lists, shows, talks, copies and deletes."""
    ollama = pytest.importorskip("ollama", reason="the `ollama` package is not installed")
    with service(settings, StoreModels(settings), port=0, open_library=lambda: library) as (_, ready):
        client: Any = ollama.Client(host=ready.url)
        try:
            lines = list(client.pull(name, stream=True))
            assert (lines[0].status, lines[-1].status) == ("pulling manifest", "success")
            assert {line.digest for line in lines if line.digest} == {
                str(item.digest) for item in model(1).manifest.successors
            }
            [listed] = client.list().models
            assert (listed.model, listed.size) == (name, model(1).manifest.content_size)
            assert client.show(name).modelinfo["general.architecture"] == listed.details.family
            answer = client.chat(name, [{"role": "user", "content": "hello"}])
            assert answer.message.content == "hello"
            [running] = client.ps().models
            assert (running.model, running.digest) == (name, listed.digest)
            client.copy(name, "mine:v1")
            client.delete(name)
            assert [item.model for item in client.list().models] == ["mine:v1"]
            client.delete("mine:v1")
            assert (client.list().models, client.ps().models) == ([], [])
        finally:
            client._client.close()


def test_every_door_is_where_its_clients_look(settings: Settings, library: StoreLibrary, name: str) -> None:
    """Docker's addresses, Anthropic's at all three of its own, and OpenAI's below them, on one port."""
    pulled(library, name)
    turns = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}
    with (
        service(settings, StoreModels(settings), port=0, open_library=lambda: library) as (client, ready),
        httpx.Client(base_url=str(ready.url), timeout=20) as http,
    ):
        configured = http.post("/engines/_configure", json={"model": name, "context-size": 64})
        assert configured.status_code == 202
        eventually(lambda: [item.state for item in client.loaded()] == ["ready"])
        assert [item.model.context_length for item in client.loaded() if item.model] == [64]
        for path in ("/v1", "/anthropic/v1", "/engines/v1", "/engines/llama.cpp/v1"):
            message = http.post(f"{path}/messages", json=turns).json()
            assert message["content"] == [{"type": "text", "text": "hello"}]
        assert http.get("/engines/v1/models").json()["data"][0]["id"] == name
        assert http.get(f"/models/{name}").json()["tags"] == [f"{name}:latest"]
        assert http.post("/engines/unload", json={"all": True}).json() == {"unloaded_runners": 1}
