"""This machine: cores, memory and GPUs, as far as this process may use them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from qwenctl.errors import AccessDenied, FileMissing
from qwenctl.model.host import Host, Ram
from qwenctl.runtime.cgroup import MEMBERSHIP, MOUNT, core_limit, memory_limits

_NO_VARIABLES: Final[Mapping[str, str]] = {}


def read_host(backends: Sequence[Path] = (), environ: Mapping[str, str] = _NO_VARIABLES) -> Host:
    """This machine with the GPUs that llama.cpp would use, as it is now.

    `backends` are further ggml backend libraries that the user loads. `environ` is this process's
    environment, which the process that asks llama.cpp inherits; it is an argument for what hides GPUs
    (`CUDA_VISIBLE_DEVICES`) where only the drivers can be asked.
    Takes milliseconds with a llama.cpp for the CPU alone; else up to seconds, for a short-lived process asks.
    """
    from qwenctl.runtime.gpus import find_gpus  # a worker needs this module too, and none of that

    ram = read_ram()
    found = find_gpus(ram, backends, environ)
    return Host(ram=ram, gpus=found.gpus, cores=physical_cores(), source=found.source, notes=found.notes)


def read_profile(path: Path) -> Host:
    """The machine that a profile describes. Raises: FileMissing, AccessDenied, Malformed, UsageError."""
    from qwenctl.model.profile import PROFILE_LIMIT, parse_host_profile

    try:
        with path.open("rb") as file:
            raw = file.read(PROFILE_LIMIT + 1)
    except FileNotFoundError as error:
        raise FileMissing(f"machine profile `{path}` does not exist") from error
    except OSError as error:
        raise AccessDenied(f"machine profile `{path}` cannot be read: {error.strerror}") from error
    return parse_host_profile(raw, str(path))


def read_ram(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> Ram:
    """The memory of the machine, or what the limits of its control groups leave of it."""
    import psutil

    machine = psutil.virtual_memory()
    limits = memory_limits(mount, membership)
    total = min([machine.total, *(limit.limit_bytes for limit in limits)])
    available = min([machine.available, *(limit.left_bytes for limit in limits)])
    return Ram(total_bytes=total, available_bytes=available)


def physical_cores(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int:
    """The cores to compute on: physical ones, for two threads of one share its arithmetic units; no more
    than the process may run on, nor than its container may use in full.
    """
    import psutil

    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    physical = psutil.cpu_count(logical=False) or logical
    return max(1, min(physical, allowed, core_limit(mount, membership) or allowed))


def resident_bytes() -> int:
    """The memory that this process has in RAM."""
    import psutil

    return int(psutil.Process().memory_info().rss)
