"""The GPUs that llama.cpp would use here, with the memory that their drivers tell.

Which ones, under which names and in which order is llama.cpp's to say; how much of their memory is free the
drivers know better, for they count no context of the process that asks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qwenctl.errors import EngineError
from qwenctl.model.host import DEVICE_NAMES, Gpu, Ram, backend_of
from qwenctl.runtime.cards import DRIVEN, Card, Vendor, cards_of, pci_address
from qwenctl.runtime.gpus_apple import apple_cards
from qwenctl.runtime.gpus_ggml import Device, ask_llama, backends_among, built_backends, usable_devices
from qwenctl.runtime.gpus_notes import unbuilt_notes, unlisted_notes
from qwenctl.runtime.gpus_nvidia import nvidia_cards, visible_cards
from qwenctl.runtime.gpus_sysfs import sysfs_cards

# Where one of these is set, a card of another vendor than NVIDIA may be missing on purpose.
_HIDING: Final = (
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "GGML_DISABLE_VULKAN",
)


@dataclass(frozen=True, slots=True)
class Found:
    """The GPUs, how they were found, and what a person should know about them."""

    gpus: tuple[Gpu, ...]
    source: str
    notes: tuple[str, ...] = ()


def driver_cards() -> tuple[Card, ...]:
    """The cards of this machine as their drivers tell of them; no context is made on any."""
    return (*nvidia_cards(), *sysfs_cards(), *apple_cards())


@dataclass(frozen=True, slots=True)
class Probes:
    """Where the facts come from; tests put others in their place. `devices` raises EngineError."""

    cards: Callable[[], tuple[Card, ...]] = driver_cards
    built: Callable[[Mapping[str, str]], frozenset[str]] = built_backends
    devices: Callable[[Sequence[Path]], tuple[Device, ...]] = ask_llama


def find_gpus(
    ram: Ram, backends: Sequence[Path], environ: Mapping[str, str], probes: Probes | None = None
) -> Found:
    """The GPUs that llama.cpp would use, with the further ggml libraries `backends`.

    No process is started when llama.cpp was built for the CPU alone and there is no further library.
    """
    probes = probes or Probes()
    built = probes.built(environ) | backends_among(backends)
    # The drivers come first: later the contexts of the process that asks llama.cpp might still count.
    cards = probes.cards()
    visible = _visible(cards, environ)
    if not built and not backends:
        return Found((), "llama.cpp was built for the CPU alone", unbuilt_notes(visible))
    try:
        devices = probes.devices(backends)
    except EngineError as error:
        able = [card for card in visible if DRIVEN[card.vendor].library in built]
        return _by_drivers(able, ram, error, by_address=environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID")
    pairs = [(device, _card_of(device, cards, visible)) for device in usable_devices(devices)]
    return Found(
        gpus=tuple(_gpu(device, card, ram) for device, card in pairs),
        source=_source([card for _, card in pairs if card is not None]),
        notes=unlisted_notes(visible, devices, built),
    )


def _visible(cards: Sequence[Card], environ: Mapping[str, str]) -> tuple[Card, ...]:
    """The cards that the environment does not hide; of other vendors than NVIDIA all or none."""
    hidden = any(variable in environ for variable in _HIDING)
    others = [card for card in cards if card.vendor != "nvidia" and not hidden]
    return (*visible_cards(cards_of("nvidia", cards), environ), *others)


def _card_of(device: Device, cards: Sequence[Card], visible: Sequence[Card]) -> Card | None:
    """The card that a device is: the one with its PCI address; of a card's slices (MIG) a visible one, and of
    those the nearest in size. Apple's GPU has no address; a share of a card (`GGML_CUDA_DEVICES`) has an id
    that is none, and keeps llama.cpp's figures.
    """
    if backend_of(device.name) == "metal":
        return next(iter(cards_of("apple", cards)), None)
    address = pci_address(device.device_id or "")
    found = [card for card in cards if address is not None and card.pci == address]
    return min(
        found,
        key=lambda card: (card not in visible, abs(card.total_bytes - device.total_bytes)),
        default=None,
    )


def _gpu(device: Device, card: Card | None, ram: Ram) -> Gpu:
    backend = backend_of(device.name)
    total, free, shares_ram = _memory(device, card, ram)
    # llama.cpp measures free memory beside a context of its own, and nothing may be taken off it twice.
    beside_none = card is not None and DRIVEN[card.vendor].backend == backend
    return Gpu(
        name=device.name,
        backend=backend,
        total_bytes=total,
        free_bytes=min(free, total),
        description=device.description or (card.description if card else ""),
        overhead_bytes=card.overhead_bytes if card is not None and beside_none else 0,
        shares_ram=shares_ram,
        id=device.device_id or (card.uuid if card else None),
    )


def _memory(device: Device, card: Card | None, ram: Ram) -> tuple[int, int, bool]:
    """Total and free bytes of a device, and whether they are the RAM's."""
    if card is not None and card.shares_ram:
        total = min(device.total_bytes or card.total_bytes or ram.total_bytes, ram.total_bytes)
        return total, min(device.free_bytes or total, ram.available_bytes), True
    if card is not None and device.type == "igpu" and card.total_bytes < card.mapped_total_bytes:
        # An APU that lives on RAM. One with a large memory set apart is left to that, like any other card.
        total = card.total_bytes + card.mapped_total_bytes
        free = card.free_bytes + min(card.mapped_free_bytes, ram.available_bytes)
        return min(total, device.total_bytes or total), free, True
    if card is not None and card.total_bytes:
        # Of a slice llama.cpp knows the size, and the driver perhaps only that of the whole card.
        return min(card.total_bytes, device.total_bytes or card.total_bytes), card.free_bytes, False
    if device.type == "igpu":
        return device.total_bytes, min(device.free_bytes, ram.available_bytes), True
    return device.total_bytes, device.free_bytes, False


def _source(joined: Sequence[Card]) -> str:
    told = " and ".join(dict.fromkeys(DRIVEN[card.vendor].memory for card in joined))
    return f"llama.cpp's list of devices, memory by {told}" if told else "llama.cpp's list of devices"


def _by_drivers(cards: Sequence[Card], ram: Ram, error: EngineError, by_address: bool) -> Found:
    """The best guess when llama.cpp cannot be asked: `cards` are those that it has a backend for.

    `by_address`: CUDA has NVML's order; else its own, with the fastest card first.
    """
    gpus: list[Gpu] = []
    vendors: list[Vendor] = [vendor for vendor in DRIVEN if cards_of(vendor, cards)]
    for vendor in vendors:
        chosen = cards_of(vendor, cards)
        # CUDA shows one slice to a process. Source: NVIDIA MIG User Guide, "CUDA Device Enumeration".
        count = 1 if any((card.uuid or "").startswith("MIG-") for card in chosen) else len(chosen)
        gpus += [_guess(card, index, ram) for index, card in enumerate(chosen[:count])]
    orders = " and ".join(dict.fromkeys(DRIVEN[vendor].order for vendor in vendors))
    if not gpus:
        return Found((), "no answer of llama.cpp", (error.message,))
    doubt = "" if by_address or len(gpus) == 1 else ", which may not be llama.cpp's"
    return Found(tuple(gpus), f"the drivers, in {orders} order{doubt}", (error.message,))


def _guess(card: Card, index: int, ram: Ram) -> Gpu:
    backend = DRIVEN[card.vendor].backend
    total, free = card.total_bytes, card.free_bytes
    if card.shares_ram:
        total = total or ram.total_bytes
        free = min(free or total, ram.available_bytes)
    return Gpu(
        name=f"{DEVICE_NAMES[backend]}{index}",
        backend=backend,
        total_bytes=total,
        free_bytes=min(free, total),
        description=card.description,
        overhead_bytes=card.overhead_bytes,
        shares_ram=card.shares_ram,
        id=card.pci or card.uuid,
    )
