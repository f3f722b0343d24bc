"""Graphics cards as their drivers tell of them, whether or not llama.cpp can use them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from qwenctl.model.host import Backend

Vendor = Literal["nvidia", "amd", "intel", "apple"]

_PCI: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card, or a slice of one (MIG). Sizes are 0 where the driver tells none.

    `mapped_…` is RAM that the driver lends to the card (AMD's GTT): of use only to an integrated GPU.
    `overhead_bytes` is what one process takes there with the vendor's own backend beside all buffers.
    `shares_ram`: the card has no memory of its own. `pci` is as `pci_address` writes it.
    """

    vendor: Vendor
    description: str
    total_bytes: int = 0
    free_bytes: int = 0
    mapped_total_bytes: int = 0
    mapped_free_bytes: int = 0
    overhead_bytes: int = 0
    shares_ram: bool = False
    pci: str | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class Driven:
    """How a vendor's cards are driven. `library` is ggml's name of the vendor's own backend, `title` says
    what to build llama.cpp with and `option` how; `order` and `memory` tell whose those of the cards are.
    """

    backend: Backend
    library: str
    title: str
    option: str
    order: str
    memory: str


# Source of libraries and options: ggml/CMakeLists.txt, llama.cpp 0c1e5709.
DRIVEN: Final[Mapping[Vendor, Driven]] = MappingProxyType(
    {
        "nvidia": Driven("cuda", "cuda", "CUDA", "GGML_CUDA=on", "NVML's", "NVML"),
        "amd": Driven("rocm", "hip", "HIP or Vulkan", "GGML_HIP=on", "the PCI bus's", "sysfs"),
        "intel": Driven("sycl", "sycl", "Vulkan or SYCL", "GGML_VULKAN=on", "the PCI bus's", "sysfs"),
        "apple": Driven("metal", "metal", "Metal", "GGML_METAL=on", "the system's", "Metal"),
    }
)
"""Every vendor."""


def cards_of(vendor: Vendor, cards: Sequence[Card]) -> tuple[Card, ...]:
    """The cards of one vendor, in their order."""
    return tuple(card for card in cards if card.vendor == vendor)


def pci_address(text: str) -> str | None:
    """`text` as ggml writes PCI addresses, `0000:01:00.0`; None when it is none.

    NVML writes the domain with eight digits. Source: ggml-backend.h, `ggml_backend_dev_props.device_id`,
    llama.cpp 0c1e5709.
    """
    match = _PCI.fullmatch(text)
    if match is None:
        return None
    domain, bus, device, function = (int(part, 16) for part in match.groups())
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"
