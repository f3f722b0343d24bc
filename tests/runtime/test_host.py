from pathlib import Path

import pytest

from qwenctl.runtime.host import physical_cores, read_memory, resident_bytes


def test_this_machine_has_something() -> None:
    """Plausible figures from the real system."""
    memory = read_memory()
    assert 0 < memory.available <= memory.total
    assert physical_cores() >= 1
    assert 1 << 20 < resident_bytes() < memory.total


@pytest.mark.parametrize(
    ("directory", "limit", "used"),
    [(".", "memory.max", "memory.current"), ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes")],
)
def test_a_container_limit_counts(tmp_path: Path, directory: str, limit: str, used: str) -> None:
    """The limit is the total; what is available is the rest, droppable file pages included."""
    group = tmp_path / directory
    group.mkdir(exist_ok=True)
    (group / limit).write_text("100000000\n")
    (group / used).write_text("60000000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 20000000\n")
    memory = read_memory(tmp_path)
    assert (memory.total, memory.available) == (100_000_000, 60_000_000)


@pytest.mark.parametrize("content", ["max\n", "junk"])
def test_no_limit_is_the_machine(tmp_path: Path, content: str) -> None:
    """`max`, or files we cannot read, are no limit."""
    (tmp_path / "memory.max").write_text(content)
    assert read_memory(tmp_path).total == read_memory(tmp_path / "absent").total


@pytest.mark.parametrize(
    ("content", "bounded"), [("100000 100000\n", True), ("50000 100000\n", True), ("max 100000\n", False)]
)
def test_a_processor_quota_counts(tmp_path: Path, content: str, bounded: bool) -> None:
    """Threads beyond the quota would only wait; less than one core is still one."""
    (tmp_path / "cpu.max").write_text(content)
    expected = 1 if bounded else physical_cores(tmp_path / "absent")
    assert physical_cores(tmp_path) == expected
