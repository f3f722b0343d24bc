"""AMD's and Intel's cards by sysfs: the kernel tells their memory without any library of the vendor."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from qwenctl.runtime.cards import Card, pci_address

DRM: Final = Path("/sys/class/drm")
"""Where the kernel lists graphics cards."""

# Source: PCI ID database.
_AMD: Final = "0x1002"
_INTEL: Final = "0x8086"
_CARD: Final = re.compile(r"card[0-9]+", re.ASCII)  # beside `card0-DP-1`, an output of card 0


def sysfs_cards(drm: Path = DRM) -> tuple[Card, ...]:
    """The cards whose memory the kernel tells, in the order of their PCI addresses; none but on Linux."""
    try:
        entries = [entry for entry in drm.iterdir() if _CARD.fullmatch(entry.name)]
    except OSError:
        return ()
    return tuple(sorted(_cards(entries), key=lambda card: card.pci or ""))


def _cards(entries: list[Path]) -> Iterator[Card]:
    for entry in entries:
        vendor = _read(entry / "device" / "vendor")
        card = _amd(entry) if vendor == _AMD else _intel(entry) if vendor == _INTEL else None
        if card is not None:
            yield card


def _amd(entry: Path) -> Card | None:
    """Source: kernel documentation, gpu/amdgpu/driver-misc, "mem_info_*"; sizes are in bytes."""
    device = entry / "device"
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    if total is None or used is None:
        return None
    mapped = _number(device / "mem_info_gtt_total") or 0
    mapped_used = _number(device / "mem_info_gtt_used") or 0
    return Card(
        vendor="amd",
        description=_read(device / "product_name") or f"AMD GPU {_read(device / 'device')}".strip(),
        total_bytes=total,
        free_bytes=max(0, total - used),
        mapped_total_bytes=mapped,
        mapped_free_bytes=max(0, mapped - mapped_used),
        pci=_address(device),
    )


def _intel(entry: Path) -> Card | None:
    """A card of its own whose driver tells its memory; most drivers do not, and llama.cpp is asked then.

    Source: `lmem_total_bytes` and `lmem_avail_bytes` of Intel's i915 with local memory.
    """
    total, free = _number(entry / "lmem_total_bytes"), _number(entry / "lmem_avail_bytes")
    if not total or free is None:
        return None
    return Card(
        vendor="intel",
        description=f"Intel GPU {_read(entry / 'device' / 'device')}".strip(),
        total_bytes=total,
        free_bytes=min(free, total),
        pci=_address(entry / "device"),
    )


def _address(device: Path) -> str | None:
    """The PCI address: the name of the directory that `device` is a link to."""
    try:
        return pci_address(device.resolve().name)
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _read(path)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _read(path: Path) -> str:
    """The text of a file without its end of line; empty where there is none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
