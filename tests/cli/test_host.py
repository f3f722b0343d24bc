"""`qwenctl host`: this machine, and machines that a profile describes."""

import os
import re
from pathlib import Path

import pytest

from qwenctl.runner.client import RunnerClient
from qwenctl.settings import Settings
from tests.cli.conftest import Command

PROFILE = """
name: gaming PC
ram: {total: 32GiB, available: 28GiB}
cores: 8
gpus:
  - {description: RTX 4070, total: 12GiB, free: 11.2GiB, overhead: 300MiB}
  - {backend: metal, total: 8GiB}
"""

SHOWN = """\
Name:   gaming PC (simulated)
Cores:  8
RAM:    28.0 GiB available of 32.0 GiB
GPUs:   2 (a machine profile)

NAME   DESCRIPTION  BACKEND  FREE      TOTAL                MARGIN
CUDA0  RTX 4070     cuda     11.2 GiB  12.0 GiB             256 MiB
MTL0   -            metal    8.00 GiB  8.00 GiB of the RAM  256 MiB
"""


@pytest.fixture
def profile(tmp_path: Path) -> str:
    """A profile's path."""
    path = tmp_path / "machine.yaml"
    path.write_text(PROFILE)
    return str(path)


def test_this_machine(qwenctl: Command) -> None:
    """Cores, memory and GPUs or none, in lines; nothing on stderr."""
    shown = qwenctl("host")
    assert (shown.status, shown.err) == (0, "")
    assert re.match(
        r"Name: +this machine\nCores: +\d+\nRAM: +\S+ \S+ available of \S+ \S+\nGPUs: +(none|\d+) \(.+\)\n",
        shown.out,
    )


def test_this_machine_as_json(qwenctl: Command) -> None:
    """The same with margins and budgets; no store is made for it."""
    data = qwenctl("host", "--json").data
    assert data["simulated"] is False
    assert data["ram"]["budget_bytes"] <= data["ram"]["available_bytes"] - data["ram"]["margin_bytes"]
    assert list(data) == ["name", "simulated", "cores", "ram", "gpus", "source", "notes", "held"]
    assert data["held"] == []


def test_a_profile(qwenctl: Command, profile: str) -> None:
    """One row for each GPU, and it is said that the machine is simulated."""
    shown = qwenctl("host", "--host", profile)
    assert (shown.status, shown.out, shown.err) == (0, SHOWN, "")


def test_a_profile_as_json(qwenctl: Command, profile: str) -> None:
    """Every field of the profile, and what a plan makes of it."""
    data = qwenctl("host", "--host", profile, "--json").data
    assert (data["name"], data["simulated"], data["cores"]) == ("gaming PC", True, 8)
    assert data["gpus"][0] == {
        "name": "CUDA0",
        "backend": "cuda",
        "description": "RTX 4070",
        "total_bytes": 12 << 30,
        "free_bytes": 12025908428,
        "overhead_bytes": 300 << 20,
        "margin_bytes": 256 << 20,
        "budget_bytes": 12025908428 - (556 << 20),
        "shares_ram": False,
        "id": None,
    }


@pytest.mark.parametrize(
    ("content", "code", "status"),
    [(None, "file_missing", 3), ("ram: [", "malformed", 5), ("x: 1", "usage", 2)],
)
def test_profiles_that_are_none(
    qwenctl: Command, tmp_path: Path, content: str | None, code: str, status: int
) -> None:
    """Each with the code and status of its kind."""
    path = tmp_path / "machine.yaml"
    if content is not None:
        path.write_text(content)
    shown = qwenctl("host", "--host", str(path), "--json")
    assert (shown.status, shown.document["errors"][0]["code"]) == (status, code)
    assert str(path) in shown.document["errors"][0]["message"]


def test_what_our_loaded_models_hold(qwenctl: Command, tmp_path: Path) -> None:
    """A loaded model is named with its memory, which is not free now; after it is gone it is not."""
    os.environ["QWENCTL_RUNTIME"] = str(tmp_path / "run")
    os.environ["QWENCTL_STATE"] = str(tmp_path / "state")
    try:
        assert qwenctl("run", "guide", "hi", "-n", "1").status == 0
        (held,) = qwenctl("host", "--json").data["held"]
        assert (held["name"], held["gpu_bytes"]) == ("guide", {})
        assert held["ram_bytes"] > 2_000_000
        assert re.search(r"^Held: +\S+ MiB of RAM by guide$", qwenctl("host").out, re.MULTILINE)
        qwenctl("stop", "--all")
        assert qwenctl("host", "--json").data["held"] == []
    finally:
        if client := RunnerClient.running(settings_of(tmp_path)):
            client.shutdown()


def settings_of(directory: Path) -> Settings:
    """The settings whose runner this test started."""
    return Settings(directory / "store", directory / "run", directory / "state")
