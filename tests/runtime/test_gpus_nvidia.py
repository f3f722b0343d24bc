"""NVIDIA's cards over a fake NVML, and what `CUDA_VISIBLE_DEVICES` leaves of them."""

import pynvml
import pytest

from qwenctl.runtime.cards import Card
from qwenctl.runtime.gpus_nvidia import context_bytes, nvidia_cards, visible_cards
from tests.runtime.fake_nvml import FakeGpu, FakeNvml

GIB = 1 << 30
MIB = 1 << 20


def test_the_fake_has_what_the_library_has() -> None:
    """Every name of the fake is one of nvidia-ml-py's, and a number has the same value."""
    names = [name for name in dir(FakeNvml) if name.startswith(("nvml", "NVML"))]
    assert len(names) >= 14
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert pynvml.nvmlMemory_v2 == FakeNvml.nvmlMemory_v2
    assert issubclass(pynvml.NVMLError_NotSupported, pynvml.NVMLError)
    assert issubclass(pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError)


def test_the_library_itself_finds_nothing_or_cards() -> None:
    """Without a driver there are no cards and no error; with one, cards that have an address."""
    assert all(card.vendor == "nvidia" and card.uuid for card in nvidia_cards())


def test_a_card() -> None:
    """What the driver keeps is not in the total; the address is in ggml's spelling; NVML is closed again."""
    nvml = FakeNvml((FakeGpu(used=3 * GIB),))
    (card,) = nvidia_cards(nvml)
    assert card == Card(
        vendor="nvidia",
        description="NVIDIA GeForce RTX 4090",
        total_bytes=24 * GIB - 512 * MIB,
        free_bytes=21 * GIB - 512 * MIB,
        overhead_bytes=128 * 3 * MIB,
        pci="0000:01:00.0",
        uuid="GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    )
    assert nvml.open == 0


def test_an_old_driver() -> None:
    """Before driver 510 only the first version of the figures exists; free memory is the same."""
    new = nvidia_cards(FakeNvml((FakeGpu(used=GIB),)))
    old = nvidia_cards(FakeNvml((FakeGpu(used=GIB),), second_version=False))
    assert old[0].free_bytes == new[0].free_bytes
    assert old[0].total_bytes == 24 * GIB


def test_memory_that_is_the_machines() -> None:
    """A GB10 or Jetson tells no memory: it shares the RAM."""
    (card,) = nvidia_cards(FakeNvml((FakeGpu(name="NVIDIA GB10", total=None),)))
    assert (card.total_bytes, card.free_bytes, card.shares_ram) == (0, 0, True)


def test_no_driver_and_no_cards() -> None:
    """Both are no cards."""
    assert nvidia_cards(FakeNvml(driver=False)) == ()
    assert nvidia_cards(FakeNvml()) == ()


def test_a_lost_card_hides_no_other() -> None:
    """Each card is asked on its own."""
    nvml = FakeNvml((FakeGpu(lost=True), FakeGpu(pci="00000000:41:00.0")))
    assert [card.pci for card in nvidia_cards(nvml)] == ["0000:41:00.0"]
    assert nvml.open == 0


def test_a_split_card_is_its_slices() -> None:
    """With MIG a process gets a slice: its name, memory and multiprocessors, at the address of the card."""
    first = FakeGpu("NVIDIA H100 MIG 1g.10gb", uuid="MIG-aaaa", total=10 * GIB, reserved=0, cores=16 * 128)
    second = FakeGpu("NVIDIA H100 MIG 3g.40gb", uuid="MIG-bbbb", total=40 * GIB, reserved=0, cores=None)
    cards = nvidia_cards(FakeNvml((FakeGpu("NVIDIA H100", slices=(first, second)),)))
    assert [(card.uuid, card.total_bytes) for card in cards] == [
        ("MIG-aaaa", 10 * GIB),
        ("MIG-bbbb", 40 * GIB),
    ]
    assert {card.pci for card in cards} == {"0000:01:00.0"}
    assert [card.overhead_bytes for card in cards] == [150 * MIB, 150 * MIB]


@pytest.mark.parametrize(
    ("multiprocessors", "measured_mib"), [(34, 107), (188, 555)], ids=["RTX 4060 Ti", "RTX PRO 6000"]
)
def test_the_estimate_of_a_context(multiprocessors: int, measured_mib: int) -> None:
    """Not below what was measured in the open by more than a twentieth, and never below the least."""
    estimate = context_bytes(multiprocessors)
    assert measured_mib * 0.95 * MIB <= estimate <= max(150, measured_mib * 1.05) * MIB
    assert context_bytes(0) == 150 * MIB


CARDS = tuple(
    Card(vendor="nvidia", description=name, pci=f"0000:0{number}:00.0", uuid=f"GPU-{name}")
    for number, name in enumerate(("aa00", "ab11", "cc22"))
)


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        (None, "aa00 ab11 cc22"),
        ("", ""),
        ("-1", ""),
        ("0", "aa00"),
        ("2,0", "cc22 aa00"),
        ("0, 2", "aa00 cc22"),
        ("0,2,-1,1", "aa00 cc22"),
        ("0,7,1", "aa00"),
        ("1,1", ""),
        ("GPU-cc22", "cc22"),
        ("gpu-CC", "cc22"),
        ("GPU-a", ""),
        ("GPU-ab,GPU-aa00", "ab11 aa00"),
        ("NoDevFiles", ""),
        ("99999999999999999999", ""),
        ("²", ""),
    ],
)
def test_what_the_environment_leaves(value: str | None, chosen: str) -> None:
    """Numbers, UUIDs and unique beginnings of them, in that order, up to the first that means no card."""
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert " ".join(card.description for card in visible_cards(CARDS, environ)) == chosen
