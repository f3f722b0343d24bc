"""Control groups: what a container, a service manager or an administrator leaves of the machine to us.

Every group from the root down to the one of this process may have a limit, and all of them hold.
Source: kernel documentation, admin-guide/cgroup-v2 ("Memory Interface Files", "CPU Interface Files") and
admin-guide/cgroup-v1/memory; cgroups(7), "/proc/pid/cgroup".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

MOUNT: Final = Path("/sys/fs/cgroup")
"""Where control groups are mounted."""
MEMBERSHIP: Final = Path("/proc/self/cgroup")
"""The file that names the groups of this process."""

# Limit and use: `memory.max` ends in the death of a process, beyond `memory.high` it is slowed to a halt.
_MEMORY_V2: Final = (("memory.max", "memory.current"), ("memory.high", "memory.current"))
_MEMORY_V1: Final = (("memory.limit_in_bytes", "memory.usage_in_bytes"),)
# File pages not used lately are dropped before anything else. v1 sums up the groups below as `total_…`.
_DROPPABLE: Final = ("total_inactive_file", "inactive_file")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """One limit in bytes. `used_bytes` is what cannot be dropped of what its group holds."""

    limit_bytes: int
    used_bytes: int

    @property
    def left_bytes(self) -> int:
        """What may still be taken."""
        return max(0, self.limit_bytes - self.used_bytes)


def memory_limits(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> tuple[MemoryLimit, ...]:
    """Every memory limit that this process is under; none where there are no control groups."""
    found: list[MemoryLimit] = []
    for names, directories in (
        (_MEMORY_V2, _groups(mount, membership, "")),
        (_MEMORY_V1, _groups(mount, membership, "memory")),
    ):
        for directory in directories:
            found.extend(_limits(directory, names))
    return tuple(found)


def core_limit(mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> int | None:
    """The processor time that this process may use, in whole cores and at least one; None without a limit."""
    quotas = [_quota_v2(directory) for directory in _groups(mount, membership, "")]
    quotas += [_quota_v1(directory) for directory in _groups(mount, membership, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(mount: Path, membership: Path, controller: str) -> Iterator[Path]:
    """The directories of a controller from the root down; of the unified hierarchy (v2) for an empty name.

    A path that is not here is another mount's view of it, and in a container the root is the own group.
    """
    root = mount / controller
    yield root
    for path in _paths(membership, controller):
        directory = root
        for part in PurePosixPath(path).parts:
            if part == "..":  # the group lies outside of what this namespace shows
                break
            if part == "/":
                continue
            directory = directory / part
            yield directory


def _paths(membership: Path, controller: str) -> Iterator[str]:
    """The paths in lines like `0::/user.slice` (v2, no controller) and `4:cpu,cpuacct:/docker/…` (v1)."""
    try:
        lines = membership.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and controller in controllers.split(","):
            yield path


def _limits(directory: Path, names: tuple[tuple[str, str], ...]) -> Iterator[MemoryLimit]:
    for limit_name, used_name in names:
        limit, used = _read_number(directory / limit_name), _read_number(directory / used_name)
        if limit is not None and used is not None:
            yield MemoryLimit(limit, max(0, used - _droppable(directory / "memory.stat")))


def _quota_v2(directory: Path) -> int | None:
    try:
        quota, period = (directory / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return _cores(quota, period)


def _quota_v1(directory: Path) -> int | None:
    try:
        quota = (directory / "cpu.cfs_quota_us").read_text().strip()
        return _cores(quota, (directory / "cpu.cfs_period_us").read_text().strip())
    except (OSError, ValueError):
        return None


def _cores(quota: str, period: str) -> int | None:
    """Quota by period, both in microseconds; `max` and -1 are no limit."""
    if not (_is_number(quota) and _is_number(period)) or int(period) == 0:
        return None
    return max(1, int(quota) // int(period))


def _read_number(path: Path) -> int | None:
    """The number in a file; None for `max`, or where there is no such file."""
    try:
        text = path.read_text().strip()
    except (OSError, ValueError):
        return None
    return int(text) if _is_number(text) else None


def _droppable(path: Path) -> int:
    try:
        pairs = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return next((int(pairs[key]) for key in _DROPPABLE if _is_number(pairs.get(key, ""))), 0)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20
