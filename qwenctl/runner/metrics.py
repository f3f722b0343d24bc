"""`/metrics`: the runner in Prometheus' words, read at each scrape.

Memory is told twice for each model, as it was `planned` and as it is `loaded`, so that a drift between the
two can be watched.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.runner.messages import LoadedStatus

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Source: Prometheus documentation, "Exposition formats"."""

_HOST: Final = "host"


def render_metrics(models: Sequence[LoadedStatus]) -> bytes:
    """The exposition text for these models."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Models(models))
    return generate_latest(registry)


class _Models:
    def __init__(self, models: Sequence[LoadedStatus]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        loaded = GaugeMetricFamily("qwenctl_models_loaded", "Models in the runner.")
        loaded.add_metric([], len(self._models))
        yield loaded
        yield _family(
            "qwenctl_model_requests",
            "Requests that a model works on.",
            ["model"],
            (([model.name], model.requests) for model in self._models),
        )
        yield _family(
            "qwenctl_model_resident_bytes",
            "RAM that a model's worker process has resident.",
            ["model"],
            (([model.name], model.resident_bytes) for model in self._models if model.resident_bytes),
        )
        yield _family(
            "qwenctl_model_memory_bytes",
            "Buffers of llama.cpp, as planned and as loaded, by place (a GPU, or host) and by use.",
            ["model", "source", "place", "use"],
            (sample for model in self._models for sample in _memory(model)),
        )


def _memory(status: LoadedStatus) -> Iterator[tuple[list[str], int]]:
    told: list[tuple[str, Estimate | None]] = [
        ("planned", status.plan.estimate if status.plan else None),
        ("loaded", status.model.memory if status.model else None),
    ]
    for source, estimate in told:
        if estimate is None:
            continue
        for device in estimate.devices:
            yield from _uses([status.name, source, device.name], device)
        yield from _uses([status.name, source, _HOST], estimate.host)
        yield [status.name, source, _HOST, "output"], estimate.host.output_bytes


def _uses(labels: list[str], memory: DeviceMemory | HostMemory) -> Iterator[tuple[list[str], int]]:
    yield [*labels, "weights"], memory.weights_bytes
    yield [*labels, "kv_cache"], memory.kv_cache_bytes
    yield [*labels, "compute"], memory.compute_bytes


def _family(
    name: str, help_text: str, labels: list[str], samples: Iterable[tuple[list[str], int]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
