"""What one run of a program costs: wall clock, CPU, peak memory; and ratios of runs that took turns."""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_PIECE = bytes(range(256)) * 4096  # a MiB that is not zero: no file system makes a hole of it
_SAID = 800  # characters of a failed program's last words


class RunFailed(Exception):
    """A program that is measured ended with another status than 0."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `beside` is how many CPUs worked for anything else, the kernel's threads included."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int = 0
    server_cpu_seconds: float = 0.0
    beside: float = 0.0


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, above: Sequence[float], below: Sequence[float]) -> Self:
        """The spread of the ratios round by round: what slowed a whole round down cancels out."""
        return cls.of([one / other for one, other in zip(above, below, strict=True)])


def measure(
    arguments: Sequence[str], environ: Mapping[str, str], log: Path, server_pid: int | None = None
) -> Run:
    """Run a program to its end, its output in `log`. `server_pid` is the process that answers it.

    CPU and peak are those that the kernel accounts to the child and its children. At the start a child
    has the memory of its parent, so the peak is never below this process's own.

    Raises: RunFailed.
    """
    server = None if server_pid is None else psutil.Process(server_pid)
    with log.open("wb") as output:
        server_before, busy_before = _cpu_of(server), _busy_seconds()
        start = time.perf_counter()
        child = subprocess.Popen(
            arguments, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
        busy, server_cpu = _busy_seconds() - busy_before, _cpu_of(server) - server_before
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        said = log.read_text(errors="replace")[-_SAID:].strip()
        raise RunFailed(f"`{' '.join(arguments[:4])} …` ended with {child.returncode}: {said}")
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)  # macOS counts bytes
    return Run(wall, cpu, peak, server_cpu, max(0.0, busy - cpu - server_cpu) / wall)


def warm_memory(directory: Path, size_bytes: int) -> None:
    """Leave the system with so much memory that it has just used: writes a file and removes it.

    A virtual machine hands free memory back to its host; the first use of such a page costs several times the
    CPU of a page that was used a moment ago, and would be charged to whoever comes first.
    """
    path = directory / "warm"
    with path.open("wb", buffering=0) as file:
        for _ in range(-(-size_bytes // len(_PIECE))):
            file.write(_PIECE)
    path.unlink()


def _cpu_of(process: psutil.Process | None) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def _busy_seconds() -> float:
    """CPU seconds that all processors have worked, or were taken away by the host."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # counted in `user` already
    return sum(times) - idle - guest
