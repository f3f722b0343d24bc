"""Figures of memory: what a model takes of each place, by whom it was said."""

from typing import Literal

import msgspec

Method = Literal["computed", "measured", "loaded"]
"""Ours; llama.cpp's own without allocating; llama.cpp's own of a model that is loaded."""


class DeviceMemory(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"weights_bytes": "weights", "kv_cache_bytes": "kv_cache", "compute_bytes": "compute"},
):
    """Bytes on one GPU."""

    name: str
    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes


class HostMemory(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={
        "weights_bytes": "weights",
        "kv_cache_bytes": "kv_cache",
        "compute_bytes": "compute",
        "output_bytes": "output",
    },
):
    """Bytes in RAM. `output_bytes` are the logits of all rows that one computation gives."""

    weights_bytes: int = 0
    kv_cache_bytes: int = 0
    compute_bytes: int = 0
    output_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.output_bytes


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration takes. `gpu_layers` are on GPUs, of `layers` that count the output as one.

    `exact`: the figures are llama.cpp's to the byte; else they are within 3 % in total on models of
    this family. `pipeline`: several GPUs work on several batches at a time, which takes more memory.
    """

    method: Method
    devices: tuple[DeviceMemory, ...]
    host: HostMemory
    gpu_layers: int
    layers: int
    flash_attention: bool
    pipeline: bool = False
    exact: bool = True

    @property
    def total_bytes(self) -> int:
        """All devices and the host."""
        return sum(device.total_bytes for device in self.devices) + self.host.total_bytes
