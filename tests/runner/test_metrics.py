"""`/metrics`: planned next to loaded, in Prometheus' text."""

from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.plan import Plan
from qwenctl.runner.messages import LoadedStatus
from qwenctl.runner.metrics import render_metrics
from qwenctl.runner.totals import Histogram, Totals
from tests.runner.runner_builders import NamedModels, ask, service, settings_in

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
    told = samples(render_metrics([status], Totals()).decode())
    assert told["qwenctl_models_loaded",] == 1
    assert told["qwenctl_model_requests", "m"] == 2
    on_gpu = [told["qwenctl_model_memory_bytes", "m", "CUDA0", "planned", use] for use in USES[:3]]
    on_host = [told["qwenctl_model_memory_bytes", "m", "host", "planned", use] for use in USES]
    assert (on_gpu, on_host) == ([1, 2, 3], [4, 5, 6, 7])


USES = ("weights", "kv_cache", "compute", "output")


def test_a_name_with_quotes_stays_one_label() -> None:
    """What is special in the format is escaped."""
    status = LoadedStatus(name='a"b\\c', id="x", state="loading", requests=0, expires_seconds=None)
    assert samples(render_metrics([status], Totals()).decode())["qwenctl_model_requests", 'a"b\\c'] == 0


def test_the_runner_has_the_door(tmp_path: Path) -> None:
    """A scrape of a runner gives the text format; before the first request there is the count alone."""
    with service(settings_in(tmp_path), NamedModels(), port=0) as (_, ready):
        answer = httpx.get(f"{ready.url}/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples(answer.text) == {("qwenctl_models_loaded",): 0}


def test_requests_are_counted(tmp_path: Path) -> None:
    """Requests by model, door and end; tokens; three histograms. Names that mean nothing share one label."""
    with service(settings_in(tmp_path), NamedModels(), port=0) as (client, ready):
        list(client.chat("echo", ask("four")))
        for name in ("nowhere", "nobody"):
            body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
            assert httpx.post(f"{ready.url}/v1/chat/completions", json=body).status_code == 404
        told = samples(httpx.get(f"{ready.url}/metrics").text)
    assert told["qwenctl_requests_total", "qwenctl", "stop", "echo"] == 1
    assert told["qwenctl_requests_total", "openai", "model_unknown", ""] == 2
    tokens = [told["qwenctl_tokens_total", kind, "echo"] for kind in ("prompt", "cached", "completion")]
    assert tokens == [4, 0, 4]
    for name in ("request", "time_to_first_token", "time_per_token"):
        assert told[f"qwenctl_{name}_seconds_count", "echo"] == 1
        assert told[f"qwenctl_{name}_seconds_bucket", "+Inf", "echo"] == 1
        assert told[f"qwenctl_{name}_seconds_sum", "echo"] > 0
    assert told["qwenctl_model_waiting_requests", "echo"] == 0
    assert told["qwenctl_model_slots", "echo"] == 4


def test_a_histogram_counts_up_to_each_bound() -> None:
    """A value counts in the bucket whose bound it does not pass, and in all that follow."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert (histogram.cumulative(), histogram.sum) == ([("1.0", 2), ("2.0", 3), ("+Inf", 4)], 12.0)
