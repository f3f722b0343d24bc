"""Models for vectors, and adapters, on simulated GPUs: loads keep to their plans."""

from pathlib import Path

import pytest

from qwenctl.model.memory.figures import Estimate
from qwenctl.runner.messages import LoadOptions
from qwenctl.runtime.engine import Adapter
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.test_adapters import write_adapter
from tests.runtime.text_models import LAST, MEAN, write_bert, write_qwen3
from tests.simgpu.build import Card, simgpu_or_skip
from tests.simgpu.simgpu_builders import decide, figures, load, plan_of

pytestmark = pytest.mark.timeout(600)
CARDS = (Card(total=1 << 30, free=1 << 30),)


def test_an_encoder_is_measured_as_it_is_loaded(tmp_path: Path) -> None:
    """To the byte, all layers on the GPU."""
    decision = decide(write_bert(tmp_path / "bert.gguf"), simgpu_or_skip(), CARDS)
    assert plan_of(decision).verdict == "gpu"
    assert figures(load(decision.options, CARDS).memory) == figures(plan_of(decision).estimate)


@pytest.mark.parametrize("pooling", [LAST, MEAN])
def test_an_embedding_model_is_computed_closely(tmp_path: Path, pooling: int) -> None:
    """Weights, cache and outputs to the byte; its compute buffer lacks the pooling, which is little."""
    decision = decide(write_qwen3(tmp_path / "vectors.gguf", pooling=pooling), simgpu_or_skip(), CARDS)
    planned, loaded = plan_of(decision).estimate, load(decision.options, CARDS).memory
    assert loaded is not None
    assert _without_compute(planned) == _without_compute(loaded)
    assert abs(planned.total_bytes - loaded.total_bytes) < 80_000


def test_an_adapter_is_loaded_with_its_model(tmp_path: Path) -> None:
    """It is in the plan; llama.cpp's account of weights has only the model's own."""
    adapter = Adapter(str(write_adapter(tmp_path / "lora.gguf")))
    path, library = write_tiny_model(tmp_path / "tiny.gguf"), simgpu_or_skip()
    plain, adapted = (decide(path, library, CARDS, LoadOptions(adapters=some)) for some in ((), (adapter,)))
    more = plan_of(adapted).estimate.total_bytes - plan_of(plain).estimate.total_bytes
    assert 0 <= more - Path(adapter.path).stat().st_size <= 2
    assert adapted.options.adapters == (adapter,)
    assert figures(load(adapted.options, CARDS).memory) == figures(plan_of(plain).estimate)


def _without_compute(estimate: Estimate) -> object:
    found = figures(estimate)
    on_gpus = [(device.weights_bytes, device.kv_cache_bytes) for device in found.devices]
    host = found.host
    return on_gpus, (host.weights_bytes, host.kv_cache_bytes, host.output_bytes), found.gpu_layers
