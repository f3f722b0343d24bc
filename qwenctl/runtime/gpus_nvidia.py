"""NVIDIA's cards by NVML: exact free memory, and no CUDA context that would take hundreds of MiB for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from qwenctl.runtime.cards import Card, pci_address

_MIB: Final = 1024 * 1024
CONTEXT_BYTES_PER_MULTIPROCESSOR: Final = 3 * _MIB
"""An estimate from two cards: 107 MiB on an RTX 4060 Ti with 34 multiprocessors, 555 MiB on an RTX PRO 6000
with 188. Source: llama.cpp pull request 23604."""
CONTEXT_BYTES_LEAST: Final = 150 * _MIB
"""The estimate for small cards and for those that tell no number of cores."""
# NVML tells CUDA cores. Volta, Turing and the A100 have 64, and their estimate comes out too low by half.
_CORES_PER_MULTIPROCESSOR: Final = 128


def nvidia_cards(nvml: Any = None) -> tuple[Card, ...]:
    """The cards in NVML's order, which is that of their PCI addresses; a card split by MIG as its slices.

    Empty without a driver. `nvml` is the module `pynvml` (nvidia-ml-py), or what has its functions.
    """
    nvml = nvml or _pynvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return ()
    try:
        return tuple(_cards(nvml))
    except nvml.NVMLError:
        return ()
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def context_bytes(multiprocessors: int) -> int:
    """What a CUDA context takes of a card's memory, once for each process; an estimate."""
    return max(CONTEXT_BYTES_LEAST, multiprocessors * CONTEXT_BYTES_PER_MULTIPROCESSOR)


def visible_cards(cards: Sequence[Card], environ: Mapping[str, str]) -> tuple[Card, ...]:
    """The cards that `CUDA_VISIBLE_DEVICES` leaves to a process, in the order that it gives them.

    Numbers count in the order of `cards`; CUDA counts the fastest first unless `CUDA_DEVICE_ORDER` is
    `PCI_BUS_ID`. The first entry that means no card ends the list; one that is there twice empties it.
    Source: CUDA C++ Programming Guide, "CUDA Environment Variables"; for repeated entries PyTorch,
    `torch.cuda._parse_visible_devices`.
    """
    wanted = environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return tuple(cards)
    chosen: list[Card] = []
    for entry in wanted.split(","):
        card = _named(entry.strip(), cards)
        if card is None:
            break
        if card in chosen:
            return ()
        chosen.append(card)
    return tuple(chosen)


def _pynvml() -> Any:
    import pynvml

    return pynvml


def _named(entry: str, cards: Sequence[Card]) -> Card | None:
    """The card that a number, a UUID or the beginning of exactly one UUID means."""
    if entry.isascii() and entry.isdigit() and len(entry) < 6:
        return cards[int(entry)] if int(entry) < len(cards) else None
    if not entry.upper().startswith(("GPU-", "MIG-")):
        return None
    found = [card for card in cards if card.uuid and card.uuid.upper().startswith(entry.upper())]
    return found[0] if len(found) == 1 else None


def _cards(nvml: Any) -> Iterator[Card]:
    for index in range(nvml.nvmlDeviceGetCount()):
        # A card that fell off the bus must not hide the others.
        with suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            pci = pci_address(_text(nvml.nvmlDeviceGetPciInfo(handle).busId))
            slices = list(_slices(nvml, handle))
            for part in slices:
                yield _card(nvml, part, pci, _slice_multiprocessors(nvml, part))
            if not slices:
                yield _card(nvml, handle, pci, _multiprocessors(nvml, handle))


def _card(nvml: Any, handle: Any, pci: str | None, multiprocessors: int) -> Card:
    total, free = _memory(nvml, handle)
    return Card(
        vendor="nvidia",
        description=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=total,
        free_bytes=free,
        overhead_bytes=context_bytes(multiprocessors),
        shares_ram=total == 0,
        pci=pci,
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """Total and free bytes; zeros where the memory is the machine's RAM (GB10, Jetson).

    What the driver reserves for itself is in NVML's total and can never be had. Drivers before 510 have only
    the first version, which counts it as used.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        return memory.total - memory.reserved, memory.free
    except nvml.NVMLError_NotSupported:
        return 0, 0
    except nvml.NVMLError_FunctionNotFound:
        pass
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_NotSupported:
        return 0, 0
    return memory.total, memory.free


def _slices(nvml: Any, handle: Any) -> Iterator[Any]:
    """The MIG devices of a card; none where MIG is off, or a thing this card does not know."""
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(handle)
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0
    except nvml.NVMLError:
        return
    for index in range(count):
        with suppress(nvml.NVMLError):  # NotFound: fewer were made than there is room for
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)


def _multiprocessors(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetNumGpuCores(handle)) // _CORES_PER_MULTIPROCESSOR
    except nvml.NVMLError:
        return 0


def _slice_multiprocessors(nvml: Any, handle: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetAttributes(handle).multiprocessorCount)
    except nvml.NVMLError:
        return 0


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
