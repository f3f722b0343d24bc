"""What a person should know about cards that are there and yet do not count."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from qwenctl.runtime.cards import DRIVEN, Card, cards_of, pci_address
from qwenctl.runtime.gpus_ggml import Device

_BUILD: Final = "make clean install CMAKE_ARGS=-D"
# Backends that can drive a card of any vendor.
_GENERAL: Final = frozenset({"vulkan", "opencl", "webgpu"})


def unlisted_notes(
    cards: Sequence[Card], devices: Sequence[Device], built: frozenset[str]
) -> tuple[str, ...]:
    """Notes on the cards that llama.cpp does not list; none beside a device without an address, which may be
    any of them.
    """
    gpus = [device for device in devices if device.type in ("gpu", "igpu")]
    if any(device.device_id is None for device in gpus):
        return ()
    listed = {_card_address(device.device_id or "") for device in gpus}
    missing = [card for card in cards if card.pci not in listed]
    able = [card for card in missing if DRIVEN[card.vendor].library in built or built & _GENERAL]
    unseen = [
        f"{name} there, but llama.cpp does not see it; is its driver complete?" for name in _names(able)
    ]
    return (*unseen, *unbuilt_notes([card for card in missing if card not in able]))


def unbuilt_notes(cards: Sequence[Card]) -> tuple[str, ...]:
    """For cards that the installed llama.cpp has no backend for: which, and how it is built with one."""
    return tuple(
        f"{name} there, but this llama.cpp was built without {driven.title}; "
        f"see README, `{_BUILD}{driven.option}`"
        for vendor, driven in DRIVEN.items()
        for name in _names(cards_of(vendor, cards))
    )


def _card_address(device_id: str) -> str | None:
    """The card's address in a device's id; that of a share of a card (`GGML_CUDA_DEVICES`) ends in `-v1`."""
    return pci_address(device_id.partition("-")[0])


def _names(cards: Sequence[Card]) -> tuple[str, ...]:
    """Each description once, with the verb, and with a count where there are several."""
    counts = Counter(card.description for card in cards)
    return tuple(f"{count} x {name} are" if count > 1 else f"{name} is" for name, count in counts.items())
