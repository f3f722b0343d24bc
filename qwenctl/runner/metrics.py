"""`/metrics`: the runner in Prometheus' words, read at each scrape.

Memory is told twice for each model, as it was `planned` and as it is `loaded`, so that a drift between the
two can be watched.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.runner.messages import LoadedStatus
from qwenctl.runner.totals import Histogram, Totals

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Source: Prometheus documentation, "Exposition formats"."""

_HOST: Final = "host"


def render_metrics(models: Sequence[LoadedStatus], totals: Totals) -> bytes:
    """The exposition text for these models, and for all requests until now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Models(models))
    registry.register(_Requests(totals))
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
            "qwenctl_model_waiting_requests",
            "Requests of those that wait for a slot, or for the model to be loaded.",
            ["model"],
            (([model.name], model.waiting) for model in self._models),
        )
        yield _family(
            "qwenctl_model_slots",
            "Requests that a model can work on side by side.",
            ["model"],
            (([status.name], status.model.slots) for status in self._models if status.model),
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


class _Requests:
    """Requests that are over. One that met no model has an empty name in the label."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        requests = CounterMetricFamily(
            "qwenctl_requests",
            "Requests that are over, by how they ended.",
            labels=["model", "door", "ended"],
        )
        for labels, count in self._totals.requests.items():
            requests.add_metric(labels, count)
        yield requests
        tokens = CounterMetricFamily(
            "qwenctl_tokens",
            "Tokens: prompt, cached (those of the prompt that were not computed anew), completion.",
            labels=["model", "kind"],
        )
        for kinds, count in self._totals.tokens.items():
            tokens.add_metric(kinds, count)
        yield tokens
        yield _histogram(
            "qwenctl_request_seconds", "From a request's arrival to its end.", self._totals.duration
        )
        yield _histogram(
            "qwenctl_time_to_first_token_seconds",
            "From a request's arrival to its first token, waiting and loading included.",
            self._totals.first_token,
        )
        yield _histogram(
            "qwenctl_time_per_token_seconds",
            "Of each request, the mean between its tokens.",
            self._totals.per_token,
        )


def _histogram(name: str, help_text: str, values: Mapping[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, help_text, labels=["model"])
    for model, histogram in values.items():
        family.add_metric([model], histogram.cumulative(), histogram.sum)
    return family


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
