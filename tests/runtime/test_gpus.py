"""The GPUs of a machine: llama.cpp's list with the drivers' figures, and what is said about the rest."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from qwenctl.errors import EngineError
from qwenctl.model.host import Gpu, Ram
from qwenctl.runtime.cards import Card
from qwenctl.runtime.gpus import Found, Probes, find_gpus
from qwenctl.runtime.gpus_ggml import Device
from tests.simgpu.build import Card as Simulated
from tests.simgpu.build import simgpu_or_skip, simulate

GIB = 1 << 30
MIB = 1 << 20
RAM = Ram(total_bytes=64 * GIB, available_bytes=40 * GIB)

NVIDIA = Card(
    vendor="nvidia",
    description="NVIDIA GeForce RTX 4090",
    total_bytes=24 * GIB,
    free_bytes=22 * GIB,
    overhead_bytes=384 * MIB,
    pci="0000:01:00.0",
    uuid="GPU-1111",
)
AMD = Card(
    vendor="amd", description="AMD Radeon", total_bytes=16 * GIB, free_bytes=15 * GIB, pci="0000:03:00.0"
)
APU = Card(
    vendor="amd",
    description="AMD APU",
    total_bytes=GIB // 2,
    free_bytes=GIB // 4,
    mapped_total_bytes=32 * GIB,
    mapped_free_bytes=31 * GIB,
    pci="0000:c4:00.0",
)
APPLE = Card(
    vendor="apple", description="Apple M3", total_bytes=48 * GIB, free_bytes=48 * GIB, shares_ram=True
)


def device(name: str, total: int = 0, free: int = 0, id: str | None = None, kind: str = "gpu") -> Device:
    """A device of llama.cpp's list."""
    return Device(name=name, description="", type=kind, free_bytes=free, total_bytes=total, device_id=id)  # type: ignore[arg-type]


CUDA0 = device("CUDA0", total=24 * GIB - MIB, free=21 * GIB, id="0000:01:00.0")


def find(
    cards: Sequence[Card] = (),
    built: Sequence[str] = (),
    devices: Sequence[Device] | EngineError = (),
    environ: Mapping[str, str] | None = None,
    backends: Sequence[Path] = (),
) -> Found:
    """What is found where the facts are these; llama.cpp is asked only where it may be."""

    def ask(paths: Sequence[Path]) -> tuple[Device, ...]:
        assert built or paths, "a llama.cpp for the CPU alone is not asked"
        if isinstance(devices, EngineError):
            raise devices
        return tuple(devices)

    probes = Probes(cards=lambda: tuple(cards), built=lambda _: frozenset(built), devices=ask)
    return find_gpus(RAM, backends, environ or {}, probes)


class TestJoined:
    """Devices with the card behind them."""

    def test_a_card_with_its_driver(self) -> None:
        """Free memory is the driver's, and the context is still to be paid; the smaller total counts."""
        found = find([NVIDIA], ["cuda"], [CUDA0])
        assert found.gpus == (
            Gpu(
                name="CUDA0",
                backend="cuda",
                total_bytes=24 * GIB - MIB,
                free_bytes=22 * GIB,
                description="NVIDIA GeForce RTX 4090",
                overhead_bytes=384 * MIB,
                id="0000:01:00.0",
            ),
        )
        assert found.source == "llama.cpp's list of devices, memory by NVML"
        assert found.notes == ()

    def test_a_device_without_its_driver(self) -> None:
        """llama.cpp's own figure has the context taken off already."""
        (gpu,) = find([], ["cuda"], [CUDA0]).gpus
        assert (gpu.free_bytes, gpu.overhead_bytes, gpu.id) == (21 * GIB, 0, "0000:01:00.0")

    def test_another_backend_has_no_context_of_cuda(self) -> None:
        """An NVIDIA card driven by Vulkan has NVML's free memory and no overhead of CUDA's."""
        (gpu,) = find([NVIDIA], ["vulkan"], [device("Vulkan0", 24 * GIB, 23 * GIB, "0000:01:00.0")]).gpus
        assert (gpu.backend, gpu.free_bytes, gpu.overhead_bytes) == ("vulkan", 22 * GIB, 0)

    def test_the_order_is_llamas(self) -> None:
        """CUDA counts the fastest card first; the address says which is which."""
        slow = Card(vendor="nvidia", description="slow", total_bytes=GIB, free_bytes=GIB, pci="0000:00:01.0")
        listed = [CUDA0, device("CUDA1", GIB, GIB, "0000:00:01.0")]
        gpus = find([slow, NVIDIA], ["cuda"], listed).gpus
        assert [(gpu.name, gpu.description) for gpu in gpus] == [
            ("CUDA0", "NVIDIA GeForce RTX 4090"),
            ("CUDA1", "slow"),
        ]

    def test_only_what_llama_would_use(self) -> None:
        """An integrated GPU beside another one is not in the list, and is no news."""
        listed = [CUDA0, device("Vulkan0", GIB, GIB, "0000:c4:00.0", kind="igpu")]
        found = find([NVIDIA, APU], ["cuda", "vulkan"], listed)
        assert [gpu.name for gpu in found.gpus] == ["CUDA0"]
        assert found.notes == ()

    @pytest.mark.parametrize(
        ("visible", "size_gib", "uuid_gib"),
        [("MIG-bb", 10, 10), (None, 20, 20), (None, 10, 10), ("MIG-cc", 20, 20)],
    )
    def test_slices_of_a_card(self, visible: str | None, size_gib: int, uuid_gib: int) -> None:
        """All slices have the card's address: the visible one is meant, else the one of that size."""
        slices = [
            Card(
                vendor="nvidia",
                description=f"slice {size}",
                total_bytes=size * GIB,
                free_bytes=(size - 1) * GIB,
                pci="0000:01:00.0",
                uuid=uuid,
            )
            for uuid, size in (("MIG-aa", 40), ("MIG-bb", 10), ("MIG-cc", 20))
        ]
        environ = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
        listed = [device("CUDA0", size_gib * GIB, 0, "0000:01:00.0")]
        (gpu,) = find(slices, ["cuda"], listed, environ).gpus
        assert gpu.description == f"slice {uuid_gib}"

    def test_shares_of_a_card_keep_their_own_figures(self) -> None:
        """`GGML_CUDA_DEVICES` makes several devices of one card, each with a part of its memory."""
        listed = [device(f"CUDA{n}", 12 * GIB, 10 * GIB, f"0000:01:00.0-v{n}") for n in range(2)]
        found = find([NVIDIA], ["cuda"], listed)
        assert [(gpu.total_bytes, gpu.free_bytes) for gpu in found.gpus] == [(12 * GIB, 10 * GIB)] * 2
        assert found.notes == ()

    def test_a_further_library(self) -> None:
        """Libraries that the user gives are asked for also where nothing was built in."""
        found = find([], [], [device("SIM0", GIB, GIB)], backends=[Path("libsim.so")])
        assert [(gpu.name, gpu.backend) for gpu in found.gpus] == [("SIM0", "other")]


class TestSharedMemory:
    """GPUs that work on the RAM have no more of it than is available."""

    def test_apple(self) -> None:
        """Metal says what it may hold in all; of that only what the RAM has left is free."""
        (gpu,) = find([APPLE], ["metal"], [device("MTL0", 51 * GIB, 51 * GIB)]).gpus
        assert (gpu.total_bytes, gpu.free_bytes, gpu.shares_ram) == (51 * GIB, 40 * GIB, True)

    def test_metal_with_memory_of_its_own(self) -> None:
        """A Mac with Intel's processor has cards like any other machine."""
        (gpu,) = find([], ["metal"], [device("MTL0", 8 * GIB, 7 * GIB)]).gpus
        assert (gpu.free_bytes, gpu.shares_ram) == (7 * GIB, False)

    def test_nvidia_on_ram(self) -> None:
        """GB10: NVML tells nothing, llama.cpp the RAM's figures."""
        card = Card(vendor="nvidia", description="NVIDIA GB10", shares_ram=True, pci="000f:01:00.0")
        listed = [device("CUDA0", 128 * GIB, 60 * GIB, "000f:01:00.0", kind="igpu")]
        (gpu,) = find([card], ["cuda"], listed).gpus
        assert (gpu.total_bytes, gpu.free_bytes, gpu.shares_ram) == (64 * GIB, 40 * GIB, True)

    def test_an_apu(self) -> None:
        """It has its carve-out and what the kernel lends it of the RAM; the smaller total counts."""
        listed = [device("ROCm0", 30 * GIB, 30 * GIB, APU.pci, kind="igpu")]
        (gpu,) = find([APU], ["hip"], listed).gpus
        assert (gpu.backend, gpu.total_bytes, gpu.shares_ram) == ("rocm", 30 * GIB, True)
        assert gpu.free_bytes == 30 * GIB

    def test_an_apu_with_a_large_carve_out(self) -> None:
        """What the firmware set apart is not RAM any more."""
        card = Card(
            vendor="amd",
            description="AMD APU",
            total_bytes=96 * GIB,
            free_bytes=95 * GIB,
            mapped_total_bytes=16 * GIB,
            mapped_free_bytes=16 * GIB,
            pci=APU.pci,
        )
        listed = [device("Vulkan0", 112 * GIB, 112 * GIB, APU.pci, kind="igpu")]
        (gpu,) = find([card], ["vulkan"], listed).gpus
        assert (gpu.total_bytes, gpu.free_bytes, gpu.shares_ram) == (96 * GIB, 95 * GIB, False)

    def test_an_integrated_gpu_that_only_llama_knows(self) -> None:
        """Intel's: llama.cpp's total, and no more free than the RAM has."""
        (gpu,) = find([], ["vulkan"], [device("Vulkan0", 48 * GIB, 48 * GIB, "0000:00:02.0", "igpu")]).gpus
        assert (gpu.total_bytes, gpu.free_bytes, gpu.shares_ram) == (48 * GIB, 40 * GIB, True)


class TestNotes:
    """Cards that are there and do not count."""

    def test_a_llama_for_the_cpu_alone(self) -> None:
        """No GPU is usable; each kind of card is named with the way to build for it."""
        found = find([NVIDIA, NVIDIA, AMD])
        assert found.gpus == ()
        assert found.source == "llama.cpp was built for the CPU alone"
        assert found.notes == (
            "2 x NVIDIA GeForce RTX 4090 are there, but this llama.cpp was built without CUDA; "
            "see README, `make clean install CMAKE_ARGS=-DGGML_CUDA=on`",
            "AMD Radeon is there, but this llama.cpp was built without HIP or Vulkan; "
            "see README, `make clean install CMAKE_ARGS=-DGGML_HIP=on`",
        )

    def test_the_wrong_backend(self) -> None:
        """A llama.cpp for CUDA does nothing for AMD's card, one for Vulkan could."""
        (note,) = find([NVIDIA, AMD], ["cuda"], [CUDA0]).notes
        assert note.startswith("AMD Radeon is there, but this llama.cpp was built without HIP")
        (note,) = find([AMD], ["vulkan"], []).notes
        assert note == "AMD Radeon is there, but llama.cpp does not see it; is its driver complete?"

    @pytest.mark.parametrize("value", ["", "-1"])
    def test_what_the_user_hides_is_no_news(self, value: str) -> None:
        """Neither an NVIDIA card that is not visible, nor AMD's where some are chosen."""
        hidden = {"CUDA_VISIBLE_DEVICES": value}
        assert find([NVIDIA], environ=hidden).notes == ()
        assert find([NVIDIA], ["cuda"], [], hidden).notes == ()
        assert find([AMD], ["hip"], [], {"HIP_VISIBLE_DEVICES": "1"}).notes == ()

    def test_devices_without_addresses_may_be_any_card(self) -> None:
        """Then nothing is said about cards that seem not to be listed."""
        assert find([NVIDIA, AMD], ["opencl"], [device("GPUOpenCL", GIB, GIB)]).notes == ()

    def test_a_machine_without_cards(self) -> None:
        """Has nothing to tell."""
        assert find() == Found((), "llama.cpp was built for the CPU alone")
        assert find([], ["cuda"], []) == Found((), "llama.cpp's list of devices")


class TestWithoutLlama:
    """llama.cpp cannot be asked: the drivers' cards that it has a backend for, in the drivers' order."""

    ERROR = EngineError("llama.cpp did not list its devices: it was killed by signal 6")

    def test_the_drivers_order(self) -> None:
        """Names are counted, the source says whose order it is, and the note why."""
        other = Card(
            vendor="nvidia", description="other", total_bytes=GIB, free_bytes=GIB, pci="0000:02:00.0"
        )
        found = find([NVIDIA, other, AMD], ["cuda"], self.ERROR)
        assert [(gpu.name, gpu.id, gpu.overhead_bytes) for gpu in found.gpus] == [
            ("CUDA0", "0000:01:00.0", 384 * MIB),
            ("CUDA1", "0000:02:00.0", 0),
        ]
        assert found.source == "the drivers, in NVML's order, which may not be llama.cpp's"
        assert found.notes == (self.ERROR.message,)
        sure = find([NVIDIA, other], ["cuda"], self.ERROR, {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
        assert sure.source == "the drivers, in NVML's order"

    def test_the_visible_ones_in_their_order(self) -> None:
        """`CUDA_VISIBLE_DEVICES` counts as for CUDA."""
        other = Card(vendor="nvidia", description="other", total_bytes=GIB, free_bytes=GIB, uuid="GPU-2222")
        found = find([NVIDIA, other], ["cuda"], self.ERROR, {"CUDA_VISIBLE_DEVICES": "1,0"})
        assert [(gpu.name, gpu.id) for gpu in found.gpus] == [
            ("CUDA0", "GPU-2222"),
            ("CUDA1", "0000:01:00.0"),
        ]

    def test_one_slice(self) -> None:
        """CUDA gives a process one slice of a card, and no other card."""
        slices = [
            Card(vendor="nvidia", description="MIG", total_bytes=GIB, free_bytes=GIB, uuid=f"MIG-{number}")
            for number in range(3)
        ]
        assert [gpu.id for gpu in find(slices, ["cuda"], self.ERROR).gpus] == ["MIG-0"]

    def test_shared_memory(self) -> None:
        """As much as the RAM has available."""
        card = Card(vendor="nvidia", description="NVIDIA GB10", shares_ram=True)
        (gpu,) = find([card], ["cuda"], self.ERROR).gpus
        assert (gpu.total_bytes, gpu.free_bytes, gpu.shares_ram) == (64 * GIB, 40 * GIB, True)
        (gpu,) = find([APPLE], ["metal"], self.ERROR).gpus
        assert (gpu.name, gpu.total_bytes, gpu.free_bytes) == ("MTL0", 48 * GIB, 40 * GIB)

    def test_nothing_to_guess_from(self) -> None:
        """No GPU is promised, and the reason is told."""
        found = find([NVIDIA], ["vulkan"], self.ERROR)
        assert (found.gpus, found.source) == ((), "no answer of llama.cpp")
        assert found.notes == (self.ERROR.message,)


def test_simulated_gpus() -> None:
    """The real list of llama.cpp with a further library: what each device has, and that memory is shared."""
    library = simgpu_or_skip()
    os.environ.update(simulate(Simulated(total=4 * GIB, type="igpu"), Simulated(total=GIB, type="igpu")))
    found = find_gpus(RAM, [library], os.environ, Probes(cards=tuple))
    assert [(gpu.total_bytes, gpu.shares_ram) for gpu in found.gpus] == [(4 * GIB, True), (GIB, True)]


def test_this_machine() -> None:
    """The real probes: every GPU is one that llama.cpp has, and none has more free than in all."""
    found = find_gpus(RAM, (), os.environ)
    assert found.source
    assert all(gpu.free_bytes <= gpu.total_bytes for gpu in found.gpus)
