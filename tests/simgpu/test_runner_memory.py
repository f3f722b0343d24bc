"""The runner with real workers on simulated GPUs: what is planned, what it took, and when memory is short."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from qwenctl.cli.memory import MemoryPlanner
from qwenctl.errors import MemoryShort, WorkerDied
from qwenctl.model.host import GPU_MARGIN_BYTES
from qwenctl.runner.client import RunnerClient
from qwenctl.runner.messages import PREFIX, SOCKET_NAME, LoadedStatus, LoadOptions
from qwenctl.runner.models import LoadPlanner
from qwenctl.runner.supervisor import WORKER_ARGV
from qwenctl.runtime.engine import ChatRequest
from qwenctl.runtime.sampling import Sampling
from qwenctl.settings import Settings
from tests.runner.runner_builders import Files, ask, eventually, service, text_of
from tests.runtime.runtime_builders import write_tiny_model
from tests.shape_models import write_shape_model
from tests.simgpu.build import GIB, MIB, Card, simgpu_or_skip
from tests.simgpu.simgpu_builders import (
    Cards,
    Crowded,
    OtherProgram,
    decide,
    figures,
    plan_of,
    sim_settings,
    use_cards,
)

# The first use ever fetches 77 MB and compiles.
pytestmark = pytest.mark.timeout(600)

Running = tuple[RunnerClient, str]

SMALL = LoadOptions(context_length=2048, slots=1)
WHOLE = LoadOptions(context_length=2048, slots=1, gpu_layers=-1)
DRIVER = 100 * MIB


@dataclass(frozen=True)
class World:
    """The library of simulated GPUs, two models of 0.5B and a tiny one, and a directory for one test.

    Each of the two takes `need_bytes` of a card with all layers and `SMALL`, the driver's part included.
    """

    library: Path
    models: Path
    directory: Path
    need_bytes: int

    @property
    def settings(self) -> Settings:
        """The runner's."""
        return sim_settings(self.directory, self.library)

    @property
    def other_program(self) -> OtherProgram:
        """One that takes some 500 MiB."""
        return OtherProgram(self.library, self.models / "other.gguf")

    @contextmanager
    def runner(self, cards: Cards, planner: LoadPlanner | None = None, **others: Any) -> Iterator[Running]:
        """A runner on these cards, which all its processes share, and its address; no worker outlives it."""
        use_cards(cards, ledger=self.directory / "ledger", **others)
        planner = planner or MemoryPlanner(self.settings)
        living = service(self.settings, Files(self.models), planner, worker_argv=WORKER_ARGV, port=0)
        with living as (client, ready):
            yield client, str(ready.url)
        assert workers() == []


@pytest.fixture(scope="module")
def library() -> Path:
    """The compiled backend."""
    return simgpu_or_skip()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the models."""
    made = tmp_path_factory.mktemp("models")
    write_shape_model(made / "first.gguf", "qwen2.5-0.5b", "Q4_K_M")
    for name in ("second", "other"):
        (made / f"{name}.gguf").symlink_to(made / "first.gguf")
    write_tiny_model(made / "tiny.gguf", layers=16)
    return made


@pytest.fixture
def world(library: Path, models: Path, tmp_path: Path) -> World:
    """All of it."""
    plan = plan_of(decide(models / "first.gguf", library, [Card(total=4 * GIB)], SMALL))
    return World(library, models, tmp_path, plan.estimate.devices[0].total_bytes + DRIVER)


def card(free_bytes: int) -> Card:
    """A card whose driver takes a part, with so many bytes free beside the margin."""
    return Card(total=4 * GIB, free=free_bytes + GPU_MARGIN_BYTES, context=DRIVER)


def asking(max_tokens: int) -> ChatRequest:
    """A request for so many tokens, always the same ones."""
    return ask("abc", sampling=Sampling(temperature=0), max_tokens=max_tokens)


def workers() -> list[int]:
    """The processes of workers that live."""
    return [child.pid for child in psutil.Process().children() if is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    """Whether it is one, and has not ended."""
    try:
        return "qwenctl.runtime.worker" in process.cmdline()
    except psutil.NoSuchProcess:  # a zombie too has no command line
        return False


def loaded(client: RunnerClient) -> dict[str, LoadedStatus]:
    """What is loaded, by name."""
    return {status.name: status for status in client.loaded()}


def assert_kept(status: LoadedStatus) -> None:
    """The load took what was planned, to the byte."""
    assert status.plan is not None and status.model is not None
    assert figures(status.model.memory) == figures(status.plan.estimate)


@pytest.mark.parametrize(
    ("free_mib", "wishes", "verdict"),
    [
        pytest.param(2000, LoadOptions(), "gpu", id="all layers on the card"),
        pytest.param(400, SMALL, "partial", id="some layers"),
        pytest.param(400, LoadOptions(context_length=512, slots=2, gpu_layers=0), "cpu", id="none"),
    ],
)
def test_what_is_loaded_is_what_was_planned(
    world: World, free_mib: int, wishes: LoadOptions, verdict: str
) -> None:
    """The runner reports the plan next to what llama.cpp allocated, and they are equal to the byte."""
    with world.runner([card(free_mib * MIB)]) as (client, _):
        client.load("first", wishes)
        [status] = client.loaded()
        assert status.plan is not None
        assert status.plan.verdict == verdict
        assert_kept(status)
        assert text_of(list(client.chat("first", asking(2))))


def test_a_model_is_split_over_two_cards(world: World) -> None:
    """A model that no card holds alone is spread over both, keeps to the plan, and answers as on the CPU."""
    wishes = LoadOptions(context_length=64, slots=1, flash_attention="off")
    tiny = world.models / "tiny.gguf"
    alone = plan_of(decide(tiny, world.library, [Card(total=GIB)], wishes)).estimate
    smaller = card(DRIVER + alone.devices[0].total_bytes * 7 // 8)
    with world.runner([smaller, smaller]) as (client, _):
        status = client.load("tiny", wishes)
        assert status.plan is not None
        assert (status.plan.verdict, status.plan.devices) == ("gpus", ("CUDA0", "CUDA1"))
        assert_kept(status)
        split = text_of(list(client.chat("tiny", asking(24))))
        client.load("tiny", msgspec.structs.replace(wishes, gpu_layers=0))
        assert text_of(list(client.chat("tiny", asking(24)))) == split != ""


def test_a_second_model_gets_what_the_first_left(world: World) -> None:
    """Beside a model that works the next one is planned with what is free, and keeps to it."""
    with world.runner([card(world.need_bytes + 450 * MIB)]) as (client, _):
        client.load("first", SMALL)
        with answering(client, "first"):
            client.load("second", SMALL)
            first, second = (loaded(client)[name] for name in ("first", "second"))
        for status in (first, second):
            assert_kept(status)
        assert first.plan is not None and second.plan is not None
        assert (first.plan.verdict, second.plan.verdict) == ("gpu", "partial")
        assert first.plan.places[0].free_bytes - second.plan.places[0].free_bytes == world.need_bytes


def test_an_idle_model_leaves_for_layers_on_the_gpu(world: World) -> None:
    """Rather than to run the next model partly on the CPU, one that idles gives up its place on the card."""
    with world.runner([card(world.need_bytes + 450 * MIB)]) as (client, _):
        client.load("first", SMALL)
        status = client.load("second", SMALL)
        assert status.plan is not None
        assert status.plan.verdict == "gpu"
        assert list(loaded(client)) == ["second"]


def test_an_idle_model_makes_room_and_a_working_one_does_not(world: World) -> None:
    """Where two do not fit, the one that idles leaves; one that works stays, and the other is refused with
    the numbers and its name, until it is done.
    """
    with world.runner([card(world.need_bytes + 100 * MIB)]) as (client, _):
        client.load("second", WHOLE)
        client.load("first", WHOLE)
        assert list(loaded(client)) == ["first"]
        with answering(client, "first"):
            with pytest.raises(
                MemoryShort, match=r"`second` needs .* of memory on CUDA0, .* can be used"
            ) as info:
                client.load("second", WHOLE)
            assert info.value.exit_code == 6
            assert "loaded: `first` (" in str(info.value.hint)
            assert "works)" in str(info.value.hint)
            refused = post_load(world.settings, "second")
            assert refused.status_code == 507
            assert refused.json()["code"] == "memory_short"
            assert list(loaded(client)) == ["first"]
        assert client.load("second", WHOLE).state == "ready"
        assert list(loaded(client)) == ["second"]


@contextmanager
def answering(client: RunnerClient, name: str) -> Iterator[None]:
    """A model that works on an answer, which is cancelled at the end."""
    events = client.chat(name, asking(2000))
    next(events)
    yield
    del events  # a client that leaves cancels
    eventually(lambda: client.status().requests == 0)


def post_load(settings: Settings, name: str) -> httpx.Response:
    """The same load as a program asks for it."""
    transport = httpx.HTTPTransport(uds=str(settings.runtime / SOCKET_NAME))
    with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as client:
        wishes = {"context_length": 2048, "slots": 1, "gpu_layers": -1}
        return client.post(f"{PREFIX}/load", json={"model": name, "options": wishes})


def test_force_loads_what_the_margin_forbids(world: World) -> None:
    """A card without room for the margin is refused by the plan; `force` takes what is there."""
    with world.runner([card(world.need_bytes - 1)]) as (client, _):
        with pytest.raises(MemoryShort) as info:
            client.load("first", WHOLE)
        assert "`--force` tries it all the same" in str(info.value.hint)
        forced = client.load("first", msgspec.structs.replace(WHOLE, force=True))
        assert forced.plan is not None
        assert forced.plan.verdict == "no"
        assert_kept(forced)
        assert client.load("first", WHOLE).pid == forced.pid


def test_memory_that_goes_between_plan_and_load(world: World) -> None:
    """Another program is faster: the error has llama.cpp's words and the plan's numbers, and no worker is
    left; once the memory is back the next request loads.
    """
    other = world.other_program
    planner = Crowded(world.settings, other.start)
    with closing(other), world.runner([card(world.need_bytes + 300 * MIB)], planner) as (client, _):
        with pytest.raises(MemoryShort, match=r"out of memory; planned were .* of .* free on CUDA0 and"):
            list(client.chat("first", asking(2)))
        assert client.loaded() == []
        eventually(lambda: workers() == [])
        planner.step = None
        other.close()
        assert text_of(list(client.chat("first", asking(2))))


def test_memory_that_runs_out_in_an_answer(world: World) -> None:
    """The request fails with what was short and what was planned; other models go on, and the next request
    loads the model anew.
    """
    with world.runner([card(4 * world.need_bytes)], fail_compute_after=6) as (client, url):
        for name in ("first", "second"):
            client.load(name, SMALL)
        pids = {name: status.pid for name, status in loaded(client).items()}
        events = client.chat("first", asking(20))
        assert text_of([next(events), next(events)])
        with pytest.raises(MemoryShort, match=r"in the middle of an answer: .* out of memory; planned were"):
            list(events)
        assert text_of(list(client.chat("second", asking(2))))
        assert loaded(client)["second"].pid == pids["second"]
        body = {"model": "second", "messages": [{"role": "user", "content": "abc"}], "max_tokens": 20}
        failed = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)
        assert (failed.status_code, failed.json()["error"]["code"]) == (507, "memory_short")
        for name in ("first", "second"):
            assert text_of(list(client.chat(name, asking(2))))
            assert loaded(client)[name].pid != pids[name]


def test_a_worker_that_dies_for_want_of_memory(world: World) -> None:
    """Where CUDA ends the process the error says why; other models go on, the next request loads it again."""
    with world.runner([card(4 * world.need_bytes)], abort_compute_after=6) as (client, _):
        client.load("second", SMALL)
        events = client.chat("first", asking(20))
        next(events)
        with pytest.raises(WorkerDied, match=r"the worker of `first` ended \(out of memory\)"):
            list(events)
        for name in ("first", "second"):
            assert text_of(list(client.chat(name, asking(2))))
        log = (world.settings.state / "runner.log").read_text()
        assert "CUDA error: out of memory" in log
        assert os.getpid() == client.status().pid
