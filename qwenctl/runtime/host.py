"""This machine: cores and memory, as far as this process may use them."""

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """RAM in bytes. `available` can be used without swapping; limits of the container are counted in."""

    total: int
    available: int


def physical_cores(cgroup: Path = _CGROUP) -> int:
    """The cores to compute on: physical ones, for two threads of one share its arithmetic units; no more
    than the process may run on, nor than its container may use in full.
    """
    import psutil

    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    physical = psutil.cpu_count(logical=False) or logical
    return max(1, min(physical, allowed, _cgroup_cores(cgroup) or allowed))


def read_memory(cgroup: Path = _CGROUP) -> Memory:
    """The memory of the machine, or of the container where that is less."""
    import psutil

    machine = psutil.virtual_memory()
    limit, used = _cgroup_memory(cgroup)
    if limit is None or limit >= machine.total:
        return Memory(machine.total, machine.available)
    return Memory(limit, max(0, min(machine.available, limit - used)))


def resident_bytes() -> int:
    """The memory that this process has in RAM."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def _cgroup_memory(root: Path) -> tuple[int | None, int]:
    """Limit and use of a control group; file pages that can be dropped do not count as used.

    Source: kernel documentation, admin-guide/cgroup-v2, "Memory Interface Files"; cgroup-v1/memory.
    """
    for directory, limit_name, used_name in (
        (root, "memory.max", "memory.current"),
        (root / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        limit, used = _read_number(directory / limit_name), _read_number(directory / used_name)
        if limit is not None and used is not None:
            return limit, max(0, used - _read_inactive_file(directory / "memory.stat"))
    return None, 0


def _cgroup_cores(root: Path) -> int | None:
    """The processor time of a control group in whole cores: quota by period, in microseconds.

    Source: kernel documentation, admin-guide/cgroup-v2, "CPU Interface Files".
    """
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return max(1, int(quota) // int(period)) if quota.isdigit() and period.isdigit() else None


def _read_number(path: Path) -> int | None:
    """The number in a file; None for `max`, or where there is no such file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _read_inactive_file(path: Path) -> int:
    try:
        pairs = (line.split() for line in path.read_text().splitlines())
        return next(
            (int(value) for key, value in pairs if key in ("inactive_file", "total_inactive_file")), 0
        )
    except (OSError, ValueError):
        return 0
