"""The command line on a simulated GPU that is too small: layers in RAM, a refusal, and `--force`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.runner.runner_builders import eventually
from tests.shape_models import SHAPES, ModelShape, write_shape_model
from tests.simgpu.build import MIB, Card, simgpu_or_skip
from tests.simgpu.simgpu_builders import use_cards

# The first use ever fetches 77 MB and compiles.
pytestmark = pytest.mark.timeout(600)

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]

# What is forced beyond the RAM must fail like any allocation, also where the system would promise everything.
LIMITED = ("sh", "-c", 'ulimit -v 8388608; exec "$@"', "sh", sys.executable, "-m", "qwenctl")
LONGEST_TOKENS = 1 << 24


@pytest.fixture
def qwenctl(tmp_path: Path) -> Iterator[Command]:
    """Runs a command beside a card with 100 MiB for models; the runner that it starts ends with the test."""
    library = simgpu_or_skip()
    use_cards([Card(total=800 * MIB, free=456 * MIB, context=100 * MIB)], ledger=tmp_path / "ledger")
    os.environ["QWENCTL_GGML_BACKENDS"] = str(library)

    def run(*arguments: str) -> Done:
        return subprocess.run([*LIMITED, *arguments], capture_output=True, text=True, timeout=120)

    yield run
    settings = load_settings()
    if runner := RunnerClient.running(settings):
        runner.shutdown()
        eventually(lambda: RunnerClient.running(settings) is None)


def data_of(done: Done) -> Any:
    """The data of the envelope of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["data"]


def small_shape() -> ModelShape:
    """Qwen2.5 0.5B with narrow layers, to be packaged quickly, and for contexts that no machine holds."""
    model = SHAPES["qwen2.5-0.5b"]
    outline = replace(model.outline, embedding_length=256, feed_forward_length=1024, head_count=4)
    return replace(model, outline=outline, context_length=LONGEST_TOKENS)


def test_a_card_that_is_too_small(qwenctl: Command, tmp_path: Path) -> None:
    """A model runs with the layers that fit, and `ps` has plan and truth; a context beyond the RAM is refused
    with exit status 6; `--force` tries it, and tells both numbers when llama.cpp fails; the runner goes on.
    """
    path = write_shape_model(tmp_path / "small.gguf", small_shape(), "Q4_K_M")
    data_of(qwenctl("package", "--gguf", str(path), "small", "--json"))
    answered = data_of(qwenctl("run", "small", "hi", "-n", "2", "--json"))
    assert answered["usage"]["completion_tokens"] == 2
    [model] = data_of(qwenctl("ps", "--json"))["models"]
    plan, memory = model["plan"], model["model"]["memory"]
    assert plan["verdict"] == "partial"
    assert 0 < memory["gpu_layers"] < memory["layers"]
    for field in ("devices", "host", "gpu_layers"):
        assert memory[field] == plan["estimate"][field]

    beyond = ("run", "small", "hi", "-n", "2", "-c", str(LONGEST_TOKENS), "--kv", "f32")
    refused = qwenctl(*beyond)
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "of RAM" in refused.stderr and "can be used" in refused.stderr
    assert "--context" in refused.stderr and "--force" in refused.stderr
    forced = qwenctl(*beyond, "--force", "--json")
    assert forced.returncode == 6
    [failure] = json.loads(forced.stdout)["errors"]
    assert failure["code"] == "memory_short"
    assert "for `small`: insufficient memory" in failure["message"]
    assert "; planned were 408 GiB of " in failure["message"]
    assert data_of(qwenctl("run", "small", "hi", "-n", "2", "--json"))["reason"] == "length"
