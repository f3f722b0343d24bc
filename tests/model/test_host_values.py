"""What a plan leaves free, and the names of devices."""

import pytest

from qwenctl.model.host import DEVICE_NAMES, Gpu, Ram, backend_of

GIB = 1 << 30
MIB = 1 << 20


def gpu(total: int, free: int, overhead: int = 0) -> Gpu:
    """A GPU with this memory."""
    return Gpu(name="CUDA0", backend="cuda", total_bytes=total, free_bytes=free, overhead_bytes=overhead)


@pytest.mark.parametrize(("total", "margin"), [(GIB, 256 * MIB), (12 * GIB, 256 * MIB), (100 * GIB, 2 * GIB)])
def test_the_margin_of_a_gpu(total: int, margin: int) -> None:
    """A fiftieth, and 256 MiB at the least."""
    assert gpu(total, total).margin_bytes == margin


def test_the_budget_of_a_gpu() -> None:
    """What is free without margin and overhead; never less than nothing."""
    assert gpu(12 * GIB, 10 * GIB, 300 * MIB).budget_bytes == 10 * GIB - 556 * MIB
    assert gpu(12 * GIB, 300 * MIB, 300 * MIB).budget_bytes == 0


@pytest.mark.parametrize(
    ("total", "available", "budget"),
    [(64 * GIB, 40 * GIB, 40 * GIB - 512 * MIB), (2000 * MIB, 1000 * MIB, 900 * MIB), (8 * GIB, 1, 0)],
)
def test_the_budget_of_the_ram(total: int, available: int, budget: int) -> None:
    """512 MiB stay available, or a twentieth of a small machine."""
    assert Ram(total_bytes=total, available_bytes=available).budget_bytes == budget


def test_names_tell_the_backend() -> None:
    """Every name that ggml gives is known again; others are of some other backend."""
    assert all(backend_of(f"{name}0") == backend for backend, name in DEVICE_NAMES.items())
    assert backend_of("GPUOpenCL") == "opencl"
    assert [backend_of(name) for name in ("WebGPU", "SIM0", "")] == ["other"] * 3
