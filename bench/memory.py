"""The memory estimate against llama.cpp's own account, over sampled models, configurations and GPUs.

    python -m bench.memory [--count N] [--seed S]

Model files have real shapes and no contents (`tests/shape_models.py`). For each family and method: how many
configurations were compared, how many are identical in every figure, the median and the worst error of the
total, and the time for one. `computed` is our arithmetic; `measured` is llama.cpp over a skeleton; both stand
beside llama.cpp over the whole file. `loaded` is the arithmetic beside what llama.cpp really allocated.

Exits with 1 when a target is missed: dense Qwen identical, the others within 3 %, `measured` identical.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qwenctl.model.memory.estimate import Estimator
from qwenctl.runtime.cpu import repacked_types
from tests.runtime.truth import (
    Comparison,
    Model,
    of_shape,
    open_truth,
    sample,
    sample_gpus,
    skeleton_of,
    truths,
)
from tests.shape_models import SHAPES, write_shape_model
from tests.simgpu.build import Unavailable, ensure_built

FAMILIES = {
    "qwen2": "Qwen2.5",
    "qwen3": "Qwen3",
    "qwen3moe": "Qwen3 MoE",
    "llama": "Llama",
    "gemma2": "Gemma 2",
}
FAMILIES |= {"gemma3": "Gemma 3"}
EXACT = ("Qwen2.5", "Qwen3")
TOLERANCE = 0.03
QUANTIZATIONS = ("F16", "Q8_0", "Q4_K_M", "Q6_K", "Q4_0", "Q2_K", "IQ4_XS")
LOADED = ("qwen2.5-0.5b", "qwen3-0.6b")
GROUP = 20  # configurations of one model on the same GPUs, in one process


@dataclass
class Row:
    """One family by one method."""

    comparisons: list[Comparison] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, comparisons: Sequence[Comparison], seconds: float) -> None:
        """More configurations, which took so long together."""
        self.comparisons += comparisons
        self.seconds += seconds

    @property
    def worst(self) -> Comparison:
        """The one with the largest error, or else with differences at all."""
        return max(self.comparisons, key=lambda item: (abs(item.error), len(item.differences)))

    @property
    def identical(self) -> int:
        """Those that agree in every figure."""
        return sum(1 for item in self.comparisons if not item.differences)

    def line(self, family: str, method: str) -> str:
        """The row of the table."""
        count = len(self.comparisons)
        median = statistics.median(abs(item.error) for item in self.comparisons)
        each = 1000 * self.seconds / count
        return (
            f"{family:10}  {method:8}  {count:6}  {self.identical:6} {self.identical / count:5.0%}"
            f"  {median:7.3%}  {abs(self.worst.error):7.3%}  {each:5.1f} ms"
        )

    def misses(self, family: str, method: str) -> bool:
        """Whether the target is missed."""
        if family in EXACT or method == "measured":
            return self.identical < len(self.comparisons)
        return abs(self.worst.error) > TOLERANCE


Table = dict[tuple[str, str], Row]


def main() -> int:
    """Compare, print the table, say whether the targets are met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="configurations that are compared")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    library = simulated_gpus()
    table: Table = defaultdict(Row)
    with tempfile.TemporaryDirectory() as directory:
        chance = random.Random(arguments.seed)
        for name, quantization, count in groups(chance, arguments.count, library is not None):
            compare_whole(table, Path(directory), chance, (name, quantization), count, library)
        for name in LOADED:
            for count in range(4 if library else 1):
                compare_loaded(table, Path(directory), chance, name, count, library)
    return report(table)


def simulated_gpus() -> Path | None:
    """The library of simulated GPUs; without it only the CPU is compared."""
    try:
        return ensure_built()
    except Unavailable as unavailable:
        print(f"no simulated GPUs, the CPU alone: {unavailable}")
        return None


def groups(chance: random.Random, count: int, with_gpus: bool) -> Iterator[tuple[str, str, int]]:
    """Models in turn, their quantization, and on how many GPUs."""
    names = list(SHAPES)
    chance.shuffle(names)
    for index in range(-(-count // GROUP)):
        yield names[index % len(names)], chance.choice(QUANTIZATIONS), index % 4 if with_gpus else 0


def compare_whole(
    table: Table,
    directory: Path,
    chance: random.Random,
    kind: tuple[str, str],
    count: int,
    library: Path | None,
) -> None:
    """Both methods beside llama.cpp over the whole file, vocabulary and all."""
    name, quantization = kind
    family = FAMILIES[SHAPES[name].outline.architecture]
    path = write_shape_model(directory / f"{name}-{quantization}.gguf", name, quantization)
    whole, gpus = open_truth(path), sample_gpus(chance, count)
    configurations = sample(chance, whole, gpus, GROUP, placements=2)
    answers = truths(whole, configurations, gpus, library)
    estimator = Estimator(whole.shape, gpus, repacked_types())
    start = time.perf_counter()
    computed = [estimator.estimate(item, pinned=False) for item in configurations]
    middle = time.perf_counter()
    measured = truths(skeleton_of(whole, directory), configurations, gpus, library)
    end = time.perf_counter()
    zipped = list(zip(configurations, answers, strict=True))
    beside = [
        Comparison(item, count, ours, *answer) for ours, (item, answer) in zip(computed, zipped, strict=True)
    ]
    table[family, "computed"].add(beside, middle - start)
    again = [
        Comparison(item, count, ours, *answer)
        for (ours, _), (item, answer) in zip(measured, zipped, strict=True)
        if ours is not None
    ]
    table[family, "measured"].add(again, end - middle)
    path.unlink()


def compare_loaded(
    table: Table, directory: Path, chance: random.Random, name: str, count: int, library: Path | None
) -> None:
    """The arithmetic beside real allocations of a small model."""
    model: Model = of_shape(directory, name, "Q4_K_M")
    gpus = sample_gpus(chance, count)
    configurations = sample(chance, model, gpus, 10, longest_tokens=4096, placements=2)
    estimator = Estimator(model.shape, gpus, repacked_types())
    start = time.perf_counter()
    computed = [estimator.estimate(item) for item in configurations]
    seconds = time.perf_counter() - start
    answers = truths(model, configurations, gpus, library, allocate=True)
    zipped = zip(configurations, computed, answers, strict=True)
    family = FAMILIES[SHAPES[name].outline.architecture]
    table[family, "loaded"].add(
        [Comparison(item, count, ours, *answer) for item, ours, answer in zipped], seconds
    )


def report(table: Table) -> int:
    """Print the table, the worst case of each row with an error, and the targets that are missed."""
    names = f"{'FAMILY':10}  {'METHOD':8}  {'COUNT':>6}  {'IDENTICAL':>12}"
    print(f"{names}  {'MEDIAN':>7}  {'WORST':>7}  {'EACH':>8}")
    rows = sorted(table.items(), key=lambda item: (list(FAMILIES.values()).index(item[0][0]), item[0][1]))
    for (family, method), row in rows:
        print(row.line(family, method))
    for (family, method), row in rows:
        if row.worst.differences:
            print(f"worst of {family}, {method}: {row.worst.describe()}")
    missed = [f"{family}, {method}" for (family, method), row in rows if row.misses(family, method)]
    print(f"missed: {'; '.join(missed)}" if missed else "all targets are met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
