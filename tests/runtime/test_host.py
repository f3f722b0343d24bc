"""This machine: memory and cores under the limits of control groups, and all of it together."""

import os
from pathlib import Path

import pytest

from qwenctl.errors import AccessDenied, FileMissing, Malformed
from qwenctl.model.host import Ram
from qwenctl.runtime.host import physical_cores, read_host, read_profile, read_ram, resident_bytes

MB = 1_000_000


def group(directory: Path, limit: object, used: int, droppable: int = 0, high: object = "max") -> Path:
    """A control group of the unified hierarchy with these figures."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.high").write_text(f"{high}\n")
    (directory / "memory.current").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"anon 5\ninactive_file {droppable}\n")
    return directory


def membership(tmp_path: Path, *lines: str) -> Path:
    """What `/proc/self/cgroup` says."""
    path = tmp_path / "self-cgroup"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_this_machine_has_something() -> None:
    """Plausible figures from the real system."""
    host = read_host(environ=os.environ)
    assert 0 < host.ram.available_bytes <= host.ram.total_bytes
    assert host.cores == physical_cores() >= 1
    assert 1 << 20 < resident_bytes() < host.ram.total_bytes
    assert host.source
    assert not host.simulated


class TestMemory:
    """`read_ram`."""

    def test_a_container_limit_counts(self, tmp_path: Path) -> None:
        """The limit is the total; what is available is the rest, droppable file pages included."""
        group(tmp_path, 100 * MB, 60 * MB, 20 * MB)
        assert read_ram(tmp_path) == Ram(total_bytes=100 * MB, available_bytes=60 * MB)

    def test_a_limit_of_the_first_version_counts(self, tmp_path: Path) -> None:
        """Its files have other names, and its statistics sum up the groups below."""
        directory = tmp_path / "memory"
        directory.mkdir()
        (directory / "memory.limit_in_bytes").write_text("100000000\n")
        (directory / "memory.usage_in_bytes").write_text("60000000\n")
        (directory / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 20000000\n")
        assert read_ram(tmp_path) == Ram(total_bytes=100 * MB, available_bytes=60 * MB)

    @pytest.mark.parametrize("content", ["max\n", "junk", "²\n", "9" * 30])
    def test_no_limit_is_the_machine(self, tmp_path: Path, content: str) -> None:
        """`max`, or files we cannot read, are no limit."""
        (tmp_path / "memory.max").write_text(content)
        (tmp_path / "memory.current").write_text("5\n")
        assert read_ram(tmp_path).total_bytes == read_ram(tmp_path / "absent").total_bytes

    def test_a_limit_beyond_the_machine_is_none(self, tmp_path: Path) -> None:
        """The first version says "no limit" as a very large number."""
        group(tmp_path, 9223372036854771712, 60 * MB)
        assert read_ram(tmp_path).total_bytes == read_ram(tmp_path / "absent").total_bytes

    def test_the_limit_of_every_group_above_counts(self, tmp_path: Path) -> None:
        """The smallest total and the least that is left may be those of different groups."""
        group(tmp_path / "user.slice", 500 * MB, 480 * MB, 10 * MB)
        group(tmp_path / "user.slice" / "session.scope", 100 * MB, 5 * MB)
        inside = membership(tmp_path, "0::/user.slice/session.scope")
        assert read_ram(tmp_path, inside) == Ram(total_bytes=100 * MB, available_bytes=30 * MB)
        above = membership(tmp_path, "0::/user.slice")
        assert read_ram(tmp_path, above).total_bytes == 500 * MB

    def test_the_soft_limit_counts(self, tmp_path: Path) -> None:
        """Beyond `memory.high` a process is slowed down until it gives memory back."""
        group(tmp_path / "a", "max", 10 * MB, high=80 * MB)
        inside = membership(tmp_path, "0::/a")
        assert read_ram(tmp_path, inside) == Ram(total_bytes=80 * MB, available_bytes=70 * MB)

    def test_nested_groups_of_the_first_version(self, tmp_path: Path) -> None:
        """The line of the controller names the group, among those of others."""
        directory = tmp_path / "memory" / "docker" / "abc"
        directory.mkdir(parents=True)
        (directory / "memory.limit_in_bytes").write_text("100000000\n")
        (directory / "memory.usage_in_bytes").write_text("60000000\n")
        inside = membership(tmp_path, "7:pids:/other", "4:memory:/docker/abc", "0::/")
        assert read_ram(tmp_path, inside) == Ram(total_bytes=100 * MB, available_bytes=40 * MB)

    def test_a_group_that_is_full(self, tmp_path: Path) -> None:
        """Nothing is available, never less."""
        group(tmp_path, 100 * MB, 130 * MB)
        assert read_ram(tmp_path).available_bytes == 0

    @pytest.mark.parametrize("line", ["0::/../../outside", "0::/gone/away", "0::", "junk", ""])
    def test_groups_that_are_not_here(self, tmp_path: Path, line: str) -> None:
        """A path of another namespace or mount is no limit; the root's own still counts."""
        mount = group(tmp_path / "a" / "mount", 100 * MB, 0)
        group(tmp_path / "outside", 50 * MB, 0)
        assert read_ram(mount, membership(tmp_path, line)).total_bytes == 100 * MB


class TestCores:
    """`physical_cores`."""

    @pytest.mark.parametrize(
        ("content", "bounded"),
        [
            ("100000 100000\n", True),
            ("50000 100000\n", True),
            ("max 100000\n", False),
            ("100000 0\n", False),
            ("junk\n", False),
        ],
    )
    def test_a_processor_quota_counts(self, tmp_path: Path, content: str, bounded: bool) -> None:
        """Threads beyond the quota would only wait; less than one core is still one."""
        (tmp_path / "cpu.max").write_text(content)
        expected = 1 if bounded else physical_cores(tmp_path / "absent")
        assert physical_cores(tmp_path) == expected

    @pytest.mark.parametrize(("quota", "bounded"), [("100000", True), ("-1", False), ("junk", False)])
    def test_a_quota_of_the_first_version_counts(self, tmp_path: Path, quota: str, bounded: bool) -> None:
        """Also of a nested group, whose controller shares its line with another."""
        directory = tmp_path / "cpu" / "docker"
        directory.mkdir(parents=True)
        (directory / "cpu.cfs_quota_us").write_text(f"{quota}\n")
        (directory / "cpu.cfs_period_us").write_text("100000\n")
        inside = membership(tmp_path, "3:cpu,cpuacct:/docker")
        expected = 1 if bounded else physical_cores(tmp_path / "absent")
        assert physical_cores(tmp_path, inside) == expected


class TestProfile:
    """`read_profile`."""

    def test_a_file(self, tmp_path: Path) -> None:
        """The machine in it."""
        path = tmp_path / "machine.yaml"
        path.write_text("ram: 8GiB\n")
        assert read_profile(path).ram.total_bytes == 8 << 30

    def test_no_file(self, tmp_path: Path) -> None:
        """Said as such."""
        with pytest.raises(FileMissing, match="does not exist"):
            read_profile(tmp_path / "absent.yaml")
        with pytest.raises(AccessDenied, match="cannot be read"):
            read_profile(tmp_path)

    def test_a_file_without_end(self) -> None:
        """No more is read than a profile may have."""
        with pytest.raises(Malformed, match="more than"):
            read_profile(Path("/dev/zero"))
