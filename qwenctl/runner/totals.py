"""Counts of all requests that are over, for `/metrics`: plain numbers, which need no library."""

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Final

from qwenctl.runner.messages import RequestRecord

# Source: OpenTelemetry semantic conventions for generative AI, metrics `gen_ai.server.time_to_first_token`,
# `gen_ai.server.time_per_output_token` and `gen_ai.server.request.duration`; the second one begins lower
# here, for small models take less than its first bound of 10 ms.
FIRST_TOKEN_SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(30.0, 60.0),
)
TOKEN_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
REQUEST_SECONDS: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(300.0, 1200.0),
)


class Histogram:
    """How many values were at most each of the `bounds`, and their sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def cumulative(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: each bound with the number of values up to it."""
        total, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class Totals:
    """All since the runner began. A request that met no model counts under the empty name."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, str]] = Counter()
        """By model, door and end."""
        self.tokens: Counter[tuple[str, str]] = Counter()
        """By model and by what they were: `prompt`, `cached` (of those), `completion`."""
        self.first_token: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(FIRST_TOKEN_SECONDS))
        self.per_token: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(TOKEN_SECONDS))
        self.duration: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(REQUEST_SECONDS))

    def add(self, record: RequestRecord, *, known: bool) -> None:
        """Counts a request that is over. Of names that are not `known` there is no end."""
        model = record.model or "" if known else ""
        self.requests[model, record.door, record.ended or ""] += 1
        self.duration[model].observe(record.seconds)
        if not model:
            return
        self.tokens[model, "prompt"] += record.prompt_tokens
        self.tokens[model, "cached"] += record.cached_tokens
        self.tokens[model, "completion"] += record.completion_tokens
        if record.first_token_seconds is not None:
            self.first_token[model].observe(record.first_token_seconds)
        if record.tokens_per_second:
            self.per_token[model].observe(1 / record.tokens_per_second)
