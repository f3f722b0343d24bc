"""AMD's and Intel's cards over made-up sysfs trees."""

from pathlib import Path

from qwenctl.runtime.cards import Card, pci_address
from qwenctl.runtime.gpus_sysfs import sysfs_cards

GIB = 1 << 30


def add_card(
    root: Path, name: str, pci: str, device: dict[str, str], card: dict[str, str] | None = None
) -> None:
    """A card as the kernel shows it: a directory with a link to the device's."""
    place = root / "devices" / pci
    place.mkdir(parents=True)
    for file, text in device.items():
        (place / file).write_text(f"{text}\n")
    entry = root / "drm" / name
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(place)
    for file, text in (card or {}).items():
        (entry / file).write_text(f"{text}\n")


def amd(vram: int, vram_used: int, gtt: int = 0, gtt_used: int = 0) -> dict[str, str]:
    """The files of an AMD card."""
    return {
        "vendor": "0x1002",
        "device": "0x744c",
        "mem_info_vram_total": str(vram),
        "mem_info_vram_used": str(vram_used),
        "mem_info_gtt_total": str(gtt),
        "mem_info_gtt_used": str(gtt_used),
    }


def test_an_amd_card(tmp_path: Path) -> None:
    """Total and used memory of its own and of the RAM lent to it, and its address from the link."""
    add_card(tmp_path, "card1", "0000:03:00.0", amd(24 * GIB, 4 * GIB, 16 * GIB, GIB))
    (card,) = sysfs_cards(tmp_path / "drm")
    assert card == Card(
        vendor="amd",
        description="AMD GPU 0x744c",
        total_bytes=24 * GIB,
        free_bytes=20 * GIB,
        mapped_total_bytes=16 * GIB,
        mapped_free_bytes=15 * GIB,
        pci="0000:03:00.0",
    )


def test_names_and_order(tmp_path: Path) -> None:
    """The product's name where the card has one; cards in the order of their addresses."""
    add_card(tmp_path, "card0", "0000:83:00.0", {**amd(GIB, 0), "product_name": "AMD Radeon PRO W7900"})
    add_card(tmp_path, "card1", "0000:03:00.0", amd(GIB, 0))
    assert [card.description for card in sysfs_cards(tmp_path / "drm")] == [
        "AMD GPU 0x744c",
        "AMD Radeon PRO W7900",
    ]


def test_intel_with_and_without_figures(tmp_path: Path) -> None:
    """An Intel card counts where its driver tells the memory; most do not."""
    vendor = {"vendor": "0x8086", "device": "0x56a0"}
    add_card(tmp_path, "card0", "0000:00:02.0", vendor)
    local = {"lmem_total_bytes": str(16 * GIB), "lmem_avail_bytes": str(15 * GIB)}
    add_card(tmp_path, "card1", "0000:03:00.0", vendor, local)
    (card,) = sysfs_cards(tmp_path / "drm")
    assert (card.vendor, card.total_bytes, card.free_bytes) == ("intel", 16 * GIB, 15 * GIB)
    assert (card.description, card.pci) == ("Intel GPU 0x56a0", "0000:03:00.0")


def test_what_is_no_card(tmp_path: Path) -> None:
    """Outputs, other vendors, AMD's without figures or with junk for them are passed over."""
    add_card(tmp_path, "card0-DP-1", "0000:03:00.0", amd(GIB, 0))
    add_card(tmp_path, "renderD128", "0000:04:00.0", amd(GIB, 0))
    add_card(tmp_path, "card1", "0000:05:00.0", {"vendor": "0x1a03"})
    add_card(tmp_path, "card2", "0000:06:00.0", {"vendor": "0x1002"})
    add_card(tmp_path, "card3", "0000:07:00.0", {**amd(GIB, 0), "mem_info_vram_total": "much"})
    (tmp_path / "drm" / "version").write_text("drm 1.1.0\n")
    assert sysfs_cards(tmp_path / "drm") == ()


def test_no_list_of_cards(tmp_path: Path) -> None:
    """A system without sysfs has none; this one's is read without an error."""
    assert sysfs_cards(tmp_path / "absent") == ()
    assert all(card.vendor in ("amd", "intel") for card in sysfs_cards())


def test_addresses() -> None:
    """One spelling for NVML's and the kernel's; what is no address is none."""
    assert pci_address("00000000:0A:1F.7") == pci_address("0000:0a:1f.7") == "0000:0a:1f.7"
    assert pci_address("00010000:01:00.0") == "10000:01:00.0"
    assert [pci_address(text) for text in ("", "0000:01:00.0-v1", "platform", "0000:01:00.8")] == [None] * 4
