"""A stand-in for the module `pynvml` that keeps its functions' contract, errors included."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class Failure(Exception):
    """What every function raises."""


class NotSupported(Failure):
    """The card does not have it."""


class FunctionNotFound(Failure):
    """The driver is too old to have it."""


class NotFound(Failure):
    """There is no such thing."""


@dataclass(frozen=True)
class FakeGpu:
    """A card. `total` None: its memory is the RAM's. `cores` None: it does not tell."""

    name: str = "NVIDIA GeForce RTX 4090"
    pci: str = "00000000:01:00.0"
    uuid: str = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
    total: int | None = 24 << 30
    reserved: int = 512 << 20
    used: int = 0
    cores: int | None = 16384
    slices: tuple["FakeGpu", ...] = ()
    slots: int = 7
    lost: bool = False


@dataclass
class FakeNvml:
    """The functions that are used of `pynvml`. `driver` False: there is none."""

    gpus: tuple[FakeGpu, ...] = ()
    driver: bool = True
    second_version: bool = True
    open: int = field(default=0)
    nvmlMemory_v2: int = 0x02000028
    NVMLError = Failure
    NVMLError_NotSupported = NotSupported
    NVMLError_FunctionNotFound = FunctionNotFound

    def nvmlInit(self) -> None:
        if not self.driver:
            raise Failure("NVML Shared Library Not Found")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        if self.gpus[index].lost:
            raise Failure("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetName(self, handle: FakeGpu) -> str:
        return handle.name

    def nvmlDeviceGetUUID(self, handle: FakeGpu) -> str:
        return handle.uuid

    def nvmlDeviceGetPciInfo(self, handle: FakeGpu) -> Any:
        return SimpleNamespace(busId=handle.pci.encode())  # bytes: a field of a C structure

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu, version: int | None = None) -> Any:
        if version and not self.second_version:
            raise FunctionNotFound("Function Not Found")
        if handle.total is None:
            raise NotSupported("Not Supported")
        used = handle.used + (0 if version else handle.reserved)
        free = handle.total - handle.reserved - handle.used
        return SimpleNamespace(total=handle.total, reserved=handle.reserved, used=used, free=free)

    def nvmlDeviceGetMigMode(self, handle: FakeGpu) -> list[int]:
        if not handle.slices and handle.name.startswith("NVIDIA GeForce"):
            raise NotSupported("Not Supported")
        return [int(bool(handle.slices)), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: FakeGpu) -> int:
        return handle.slots

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: FakeGpu, index: int) -> FakeGpu:
        if index >= len(handle.slices):
            raise NotFound("Not Found")
        return handle.slices[index]

    def nvmlDeviceGetNumGpuCores(self, handle: FakeGpu) -> int:
        if handle.cores is None:
            raise NotSupported("Not Supported")
        return handle.cores

    def nvmlDeviceGetAttributes(self, handle: FakeGpu) -> Any:
        if handle.cores is None:
            raise NotSupported("Not Supported")
        return SimpleNamespace(multiprocessorCount=handle.cores // 128)
