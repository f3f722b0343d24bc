"""The figures of the transfer benchmark beside their targets, as text and as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Self

from bench.measured import Run, Spread

DISTURBED = 0.5
"""CPUs. What the kernel does for the run itself, such as writing to the disk, is in there too."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of `first`, divided by that of `second` in the same round; the bound that it should keep.

    Without `second` it is the figure itself, and its worst counts. Without `bound` it is only told.
    """

    title: str
    first: str
    second: str | None
    figure: str
    bound: float | None
    at_least: bool = True

    def of(self, bound: float | None) -> Self:
        """The same with another bound."""
        return replace(self, bound=bound)

    def reached(self, runs: dict[str, list[Run]]) -> Spread:
        """What the runs reached."""
        above = [float(getattr(run, self.figure)) for run in runs[self.first]]
        if self.second is None:
            return Spread.of(above)
        return Spread.of_ratios(above, [float(getattr(run, self.figure)) for run in runs[self.second]])

    def is_met(self, runs: dict[str, list[Run]]) -> bool | None:
        """Whether the bound is kept; None when there is none."""
        reached = self.reached(runs)
        value = reached.high if self.second is None else reached.median
        if self.bound is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Case:
    """One table: who moved so many bytes, and what was wanted."""

    name: str
    title: str
    size_bytes: int
    runs: dict[str, list[Run]]
    goals: Sequence[Goal]

    def without_bounds(self) -> Self:
        """The same as a trial, of which nothing is wanted."""
        return replace(self, goals=[goal.of(None) for goal in self.goals])


def missed(cases: Sequence[Case]) -> list[str]:
    """The targets that are missed."""
    return [
        f"{case.name}, {goal.title}"
        for case in cases
        for goal in case.goals
        if goal.is_met(case.runs) is False
    ]


def disturbed(cases: Sequence[Case]) -> list[str]:
    """The cases beside which other work took so much of a CPU that they say little."""
    return [
        case.name
        for case in cases
        if any(median(run.beside for run in runs) > DISTURBED for runs in case.runs.values())
    ]


def as_text(case: Case) -> str:
    """The table of a case."""
    rounds = len(next(iter(case.runs.values())))
    lines = [f"\n{case.title}, {rounds} rounds"]
    wall_head = f"{'WALL':>7} {'(FROM - TO)':16}"
    lines.append(
        f"  {'':15} {'MB/S':>6}  {wall_head}  {'CPU/GB':>7}  {'SERVER':>7}  {'PEAK':>7}  {'BESIDE':>6}"
    )
    lines += [_client_line(name, runs, case.size_bytes) for name, runs in case.runs.items()]
    lines += [_goal_line(goal, case.runs) for goal in case.goals]
    return "\n".join(lines)


def as_json(cases: Sequence[Case]) -> str:
    """All figures, of each run and of each target."""
    document = {
        "conditions": {"cpus": os.cpu_count(), "load_at_the_end": os.getloadavg()},
        "cases": [
            {
                "name": case.name,
                "title": case.title,
                "size_bytes": case.size_bytes,
                "runs": {name: [asdict(run) for run in runs] for name, runs in case.runs.items()},
                "targets": [_goal_document(goal, case.runs) for goal in case.goals],
            }
            for case in cases
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


def _client_line(name: str, runs: Sequence[Run], size_bytes: int) -> str:
    wall = Spread.of([run.wall_seconds for run in runs])
    cpu = median(run.cpu_seconds for run in runs) / size_bytes * 1e9
    server = median(run.server_cpu_seconds for run in runs) / size_bytes * 1e9
    peak = max(run.peak_bytes for run in runs)
    beside = median(run.beside for run in runs)
    spread = f"({wall.low:.2f} - {wall.high:.2f})"
    served = f"{server:5.2f} s" if server else ""
    highest = f"{peak / 1e6:4.0f} MB" if peak else ""
    return (
        f"  {name:15} {size_bytes / wall.median / 1e6:6.0f}  {wall.median:5.2f} s {spread:16}  {cpu:5.2f} s"
        f"  {served:7}  {highest:7}  {beside:6.2f}"
    )


def _goal_line(goal: Goal, runs: dict[str, list[Run]]) -> str:
    reached, met = goal.reached(runs), goal.is_met(runs)
    if goal.second is None:
        shown, bound = f"{reached.high / 1e6:.0f} MB", f"{(goal.bound or 0) / 1e6:.0f} MB"
    else:
        shown = f"{reached.median:.2f} ({reached.low:.2f} - {reached.high:.2f})"
        bound = f"{goal.bound}"
    wanted = (
        "" if met is None else f"  {'≥' if goal.at_least else '≤'} {bound:7} {'met' if met else 'MISSED'}"
    )
    return f"  {goal.title:33} {shown:22}{wanted}".rstrip()


def _goal_document(goal: Goal, runs: dict[str, list[Run]]) -> dict[str, object]:
    return {
        "title": goal.title,
        **asdict(goal.reached(runs)),
        "bound": goal.bound,
        "at_least": goal.at_least,
        "met": goal.is_met(runs),
    }
