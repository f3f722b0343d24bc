"""`/metrics`: planned next to loaded, in Prometheus' text."""

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.plan import Plan
from qwenctl.runner.messages import LoadedStatus
from qwenctl.runner.metrics import render_metrics
from tests.runner.runner_builders import NamedModels, service, settings_in

ESTIMATE = Estimate(
    method="computed",
    devices=(DeviceMemory(name="CUDA0", weights_bytes=1, kv_cache_bytes=2, compute_bytes=3),),
    host=HostMemory(weights_bytes=4, kv_cache_bytes=5, compute_bytes=6, output_bytes=7),
    gpu_layers=3,
    layers=3,
    flash_attention=True,
)


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels, these in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_planned_memory_is_told_by_place_and_use() -> None:
    """Each number of the plan is a sample with the model, the place and the use as labels."""
    plan = Plan(
        verdict="gpu",
        configuration=Configuration(context_tokens=256),
        devices=("CUDA0",),
        estimate=ESTIMATE,
        places=(),
    )
    status = LoadedStatus(
        name="m", id="sha256:m", state="loading", requests=2, expires_seconds=None, plan=plan
    )
    told = samples(render_metrics([status]).decode())
    assert told["qwenctl_models_loaded",] == 1
    assert told["qwenctl_model_requests", "m"] == 2
    on_gpu = [told["qwenctl_model_memory_bytes", "m", "CUDA0", "planned", use] for use in USES[:3]]
    on_host = [told["qwenctl_model_memory_bytes", "m", "host", "planned", use] for use in USES]
    assert (on_gpu, on_host) == ([1, 2, 3], [4, 5, 6, 7])


USES = ("weights", "kv_cache", "compute", "output")


def test_a_name_with_quotes_stays_one_label() -> None:
    """What is special in the format is escaped."""
    status = LoadedStatus(name='a"b\\c', id="x", state="loading", requests=0, expires_seconds=None)
    assert samples(render_metrics([status]).decode())["qwenctl_model_requests", 'a"b\\c'] == 0


def test_the_runner_has_the_door(tmp_path: Path) -> None:
    """A scrape of a runner gives the text format; without a model there is the count alone."""
    with service(settings_in(tmp_path), NamedModels(), port=0) as (_, ready):
        answer = httpx.get(f"{ready.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples(answer.text) == {("qwenctl_models_loaded",): 0}
