"""Apple's GPU by sysctl: it works on the RAM, and macOS keeps a share of that for itself."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Final

from qwenctl.runtime.cards import Card

_GIB: Final = 1024**3
_MIB: Final = 1024**2
SMALL_MACHINE_BYTES: Final = 36 * _GIB
"""Up to this much RAM the GPU may hold two thirds of it, above three quarters: what
`recommendedMaxWorkingSetSize` of Metal was seen to be. An estimate; llama.cpp asks Metal itself."""
_SECONDS: Final = 10.0

Sysctl = Callable[[Sequence[str]], str]
"""Runs a command line and gives what it prints; raises OSError or SubprocessError."""


def apple_cards(run: Sysctl | None = None, platform: str = sys.platform) -> tuple[Card, ...]:
    """The GPU of a Mac with Apple's own processor; empty on every other machine."""
    if platform != "darwin":
        return ()
    sysctl = run or _run
    memory = _number(sysctl, "hw.memsize")
    if not memory or _number(sysctl, "hw.optional.arm64") != 1:
        return ()
    working_set = _working_set(memory, _number(sysctl, "iogpu.wired_limit_mb") or 0)
    return (
        Card(
            vendor="apple",
            description=_text(sysctl, "machdep.cpu.brand_string") or "Apple GPU",
            total_bytes=working_set,
            free_bytes=working_set,
            shares_ram=True,
        ),
    )


def _working_set(memory_bytes: int, wired_limit_mib: int) -> int:
    """What the GPU may hold: the limit that the administrator set, 0 for none, else the system's share."""
    if wired_limit_mib:
        return min(memory_bytes, wired_limit_mib * _MIB)
    return memory_bytes * 2 // 3 if memory_bytes <= SMALL_MACHINE_BYTES else memory_bytes * 3 // 4


def _number(sysctl: Sysctl, name: str) -> int | None:
    text = _text(sysctl, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None


def _text(sysctl: Sysctl, name: str) -> str:
    """The value of `name`; empty where the system has none."""
    try:
        return sysctl(("/usr/sbin/sysctl", "-n", name)).strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _run(argv: Sequence[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=_SECONDS).stdout
