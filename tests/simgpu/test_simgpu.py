"""The simulated GPUs behave as tests of memory need it. A registered backend stays, so each has a process."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.runtime_builders import write_tiny_model
from tests.simgpu.build import GIB, MIB, Card, ensure_built, simgpu_or_skip, simulate

# The first use ever fetches 77 MB and compiles.
pytestmark = pytest.mark.timeout(600)

Environment = dict[str, str]


@pytest.fixture(scope="module")
def library() -> Path:
    """The compiled backend."""
    return simgpu_or_skip()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file; tests must not change it."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


@contextmanager
def process(library: Path, environment: Environment, *arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A running `simgpu_program`, killed at the end."""
    command = [sys.executable, "-m", "tests.simgpu.simgpu_program", str(library), *map(str, arguments)]
    root = str(Path(__file__).parent.parent.parent)
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": root},
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def result(child: "subprocess.Popen[str]") -> Any:
    """What the process says; it goes on afterwards."""
    assert child.stdout is not None
    return json.loads(child.stdout.readline())


def outcome(library: Path, environment: Environment, *arguments: object) -> Any:
    """What a process says that ends by itself."""
    with process(library, environment, *arguments) as child:
        out, _ = child.communicate()
        assert child.returncode == 0
    return json.loads(out)


def gpus(devices: Any) -> dict[str, dict[str, Any]]:
    """The simulated devices by name."""
    return {device["name"]: device for device in devices if device["type"] != "cpu"}


def free_bytes(library: Path, environment: Environment) -> int:
    """What a new process finds free on the first GPU."""
    (first, *_) = gpus(outcome(library, environment, "devices")).values()
    return int(first["free_bytes"])


def test_the_devices_are_listed_as_described(library: Path) -> None:
    """Names, sizes, types and addresses; of a card with a context, what the context leaves."""
    environment = simulate(
        Card(total=8 * GIB, free=7 * GIB, context=300 * MIB),
        Card(total=2 * GIB, kind="vulkan", type="igpu"),
        Card(total=GIB, name="Own0", kind="metal"),
    )
    devices = outcome(library, environment, "devices")
    assert [device["index"] for device in devices] == list(range(len(devices)))
    found = gpus(devices)
    assert list(found) == ["CUDA0", "Vulkan0", "Own0"]
    assert found["CUDA0"]["total_bytes"] == 8 * GIB
    assert found["CUDA0"]["free_bytes"] == 7 * GIB - 300 * MIB
    assert (found["CUDA0"]["type"], found["CUDA0"]["device_id"]) == ("gpu", "0000:01:00.0")
    assert (found["Vulkan0"]["type"], found["Vulkan0"]["free_bytes"]) == ("igpu", 2 * GIB)
    assert found["Own0"]["device_id"] is None


def test_sizes_may_have_units(library: Path) -> None:
    """Bytes, KiB, MiB and GiB."""
    environment = {"SIMGPU": "total=1GiB;total=512MiB;total=3072KiB;total=7"}
    found = gpus(outcome(library, environment, "devices")).values()
    assert [device["total_bytes"] for device in found] == [GIB, 512 * MIB, 3 * MIB, 7]


@pytest.mark.parametrize(
    ("described", "reason"),
    [
        ("total=8GB", "`total=8GB` in SIMGPU is not understood"),
        ("total=-1", "`total=-1` in SIMGPU is not understood"),
        ("kind=tpu", "`kind=tpu` in SIMGPU is not understood"),
        ("colour=red", "`colour=red` in SIMGPU is not understood"),
        ("", "SIMGPU names 0 devices"),
    ],
)
def test_a_description_that_is_wrong_is_refused(library: Path, described: str, reason: str) -> None:
    """`load_backends` names the file and gives the backend's reason."""
    refused = outcome(library, {"SIMGPU": described}, "devices")
    assert refused["error"] == "LoadFailed"
    assert f"`{library}`" in refused["message"] and reason in refused["message"]


def test_a_file_that_is_no_backend_is_refused(tmp_path: Path) -> None:
    """The dynamic linker's words are in the message; nothing is looked for elsewhere."""
    other = tmp_path / "libm.so.6"
    refused = outcome(other, {}, "devices")
    assert refused["error"] == "LoadFailed" and "cannot open shared object file" in refused["message"]
    other.write_bytes(bytes(4096))
    assert "invalid ELF header" in outcome(other, {}, "devices")["message"]


@pytest.mark.parametrize(
    "cards",
    [
        pytest.param([Card(total=GIB)], id="one card"),
        pytest.param([Card(total=GIB), Card(total=GIB)], id="two cards"),
        pytest.param([Card(total=GIB, kind="vulkan")], id="vulkan"),
        pytest.param([Card(total=GIB, kind="metal")], id="metal"),
    ],
)
def test_a_model_answers_there_as_on_the_cpu(library: Path, tiny: Path, cards: list[Card]) -> None:
    """The same greedy text, from memory of the devices."""
    environment = simulate(*cards)
    there, here = (outcome(library, environment, "answer", tiny, layers) for layers in (-1, 0))
    assert there["text"] == here["text"] != ""
    taken = {name: here["free"][name] - there["free"][name] for name in here["free"] if name != "CPU"}
    assert len(taken) == len(cards) and all(bytes_ > 0 for bytes_ in taken.values())


def test_a_card_that_is_too_small_fails_as_cuda_does(library: Path, tiny: Path) -> None:
    """Out of memory for the weights, for the context of llama.cpp, and for the driver's; to the byte."""
    enough = simulate(Card(total=GIB))
    taken = GIB - outcome(library, enough, "answer", tiny, -1)["free"]["CUDA0"]
    assert "text" in outcome(library, simulate(Card(total=taken)), "answer", tiny, -1)
    for card in (Card(total=taken - 1), Card(total=100_000), Card(total=MIB, context=2 * MIB)):
        failed = outcome(library, simulate(card), "answer", tiny, -1)
        assert failed["error"] == "MemoryShort" and "out of memory" in failed["message"], card


def test_processes_share_a_card_through_a_ledger(library: Path, tiny: Path, tmp_path: Path) -> None:
    """Another process finds less free, pays for a context of its own, and gets all back after a SIGKILL."""
    environment = simulate(Card(total=GIB, context=100 * MIB), ledger=tmp_path / "ledger")
    alone = GIB - 100 * MIB
    assert free_bytes(library, environment) == alone
    with process(library, environment, "hold", tiny) as holder:
        left = gpus(result(holder))["CUDA0"]["free_bytes"]
        assert left < alone
        assert free_bytes(library, environment) == left - 100 * MIB
        holder.kill()
        # Before anybody waits for it: its slot must count no more, although the process is still listed.
        assert holder.stdout is not None and holder.stdout.read() == ""
        assert free_bytes(library, environment) == alone


def test_a_second_model_that_does_not_fit_beside_the_first_fails(
    library: Path, tiny: Path, tmp_path: Path
) -> None:
    """What another process holds is not there."""
    alone = simulate(Card(total=GIB))
    taken = GIB - outcome(library, alone, "answer", tiny, -1)["free"]["CUDA0"]
    shared = simulate(Card(total=2 * taken - 1), ledger=tmp_path / "ledger")
    with process(library, shared, "hold", tiny) as holder:
        assert gpus(result(holder))["CUDA0"]["free_bytes"] == taken - 1
        failed = outcome(library, shared, "answer", tiny, -1)
        assert failed["error"] == "MemoryShort" and "out of memory" in failed["message"]


def test_memory_may_run_out_while_generating(library: Path, tiny: Path) -> None:
    """An error of the generation, not a crash; a limit that is not reached changes nothing."""
    failed = outcome(library, simulate(Card(total=GIB), fail_compute_after=5), "answer", tiny, -1)
    assert failed["error"] == "MemoryShort" and "out of memory" in failed["message"]
    assert "text" in outcome(library, simulate(Card(total=GIB), fail_compute_after=9999), "answer", tiny, -1)


def test_the_library_is_built_once(library: Path) -> None:
    """The same file, untouched, for the same sources."""
    before = library.stat()
    assert ensure_built() == library
    assert library.stat().st_mtime_ns == before.st_mtime_ns
