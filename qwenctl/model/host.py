"""A machine as far as models are concerned: its RAM and its GPUs, real or described in a profile."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

Backend = Literal["cuda", "rocm", "musa", "vulkan", "metal", "sycl", "cann", "opencl", "other"]
"""The ggml backend that drives a GPU; each has rules of its own for the sizes of buffers."""

DEVICE_NAMES: Final[Mapping[Backend, str]] = MappingProxyType(
    {
        "cuda": "CUDA",
        "rocm": "ROCm",
        "musa": "MUSA",
        "vulkan": "Vulkan",
        "metal": "MTL",
        "sycl": "SYCL",
        "cann": "CANN",
        "opencl": "GPUOpenCL",
    }
)
"""What ggml calls the devices of a backend; all but OpenCL's have a number behind.
Source: `GGML_CUDA_NAME` and the like in ggml's headers, llama.cpp 0c1e5709."""


def backend_of(device: str) -> Backend:
    """The backend of a device that ggml calls `device`: `CUDA1` is of `cuda`; `other` for an unknown name."""
    return next((backend for backend, name in DEVICE_NAMES.items() if device.startswith(name)), "other")


_MIB: Final = 1024 * 1024
GPU_MARGIN_BYTES: Final = 256 * _MIB
"""The least that a plan leaves free on a GPU, for what no buffer accounts for: cuBLAS workspaces, memory
pools, the desktop. Measured in the open: 50 to 450 MiB; llama.cpp's own `--fit` leaves 1024 MiB."""
_GPU_MARGIN_SHARE: Final = 50  # a fiftieth, 2 %
CUDA_CONTEXT_BYTES: Final = 300 * _MIB
"""A typical CUDA context, where the card is not at hand to tell its size. An estimate: 107 MiB on an
RTX 4060 Ti, 555 MiB on an RTX PRO 6000. Source: llama.cpp pull request 23604."""
RAM_MARGIN_BYTES: Final = 512 * _MIB
"""The least that a plan leaves of the available RAM, for the rest of the machine."""
_RAM_MARGIN_SHARE: Final = 20  # a twentieth, 5 %


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU. `name` is ggml's (`CUDA0`, `Vulkan0`, `MTL0`), and so is the order among several.

    `free_bytes` can be had now; what other programs and our own loaded models hold is not in it.
    `overhead_bytes` is what the backend takes once for each process beside all buffers (the CUDA context).
    `shares_ram`: it has no memory of its own, what it takes is taken from the RAM (Apple, APUs, GB10).
    `id` is the PCI address or UUID, where there is one.
    """

    name: str
    backend: Backend
    total_bytes: int
    free_bytes: int
    description: str = ""
    overhead_bytes: int = 0
    shares_ram: bool = False
    id: str | None = None

    @property
    def margin_bytes(self) -> int:
        """What a plan leaves free here."""
        return max(GPU_MARGIN_BYTES, self.total_bytes // _GPU_MARGIN_SHARE)

    @property
    def budget_bytes(self) -> int:
        """What the buffers of one more model may take here."""
        return max(0, self.free_bytes - self.overhead_bytes - self.margin_bytes)


class Ram(msgspec.Struct, frozen=True, kw_only=True):
    """Main memory; limits of the container are counted in. `available_bytes` needs no swapping."""

    total_bytes: int
    available_bytes: int

    @property
    def margin_bytes(self) -> int:
        """What a plan leaves available."""
        return min(RAM_MARGIN_BYTES, self.total_bytes // _RAM_MARGIN_SHARE)

    @property
    def budget_bytes(self) -> int:
        """What one more model may take."""
        return max(0, self.available_bytes - self.margin_bytes)


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A machine. `simulated`: it was read from a profile, and nothing may be loaded because of it.

    `gpus` are those that llama.cpp would use, in its order. `cores` are the physical ones that this process
    may use. `source` says how the GPUs were found, and `notes` what a person should know about them.
    """

    ram: Ram
    gpus: tuple[Gpu, ...] = ()
    cores: int = 1
    name: str = "this machine"
    source: str = ""
    simulated: bool = False
    notes: tuple[str, ...] = ()
