"""Bytes, durations and rates as people read and write them. GiB is 1024³ bytes, GB is 1000³: never mixed."""

import re
from typing import Final

from qwenctl.errors import UsageError

_BINARY: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_FACTORS: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "k": 1024,
    "m": 1024**2,
    "g": 1024**3,
    "t": 1024**4,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
}
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN: Final = r"\d{1,12}(?:\.\d{1,12})?"


def render_bytes(count: int) -> str:
    """`count` bytes in binary units with two decimals below 10, one below 100: `4.36 GiB`."""
    value = float(count)
    for unit in _BINARY:
        if abs(value) < 1023.95 or unit == _BINARY[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{count} B"
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f} {unit}"


def parse_bytes(text: str) -> int:
    """The number of bytes that `text` names: `4GiB`, `4 GB`, `512m` (binary), `1048576`.

    Raises: UsageError when it is not a non-negative number with a known unit.
    """
    match = re.fullmatch(r"(\d{1,18})(\.\d{1,18})?\s*([a-zA-Z]*)", text.strip(), re.ASCII)
    factor = _FACTORS.get(match[3].lower()) if match else None
    if match is None or factor is None:
        raise UsageError(f"`{text}` is not a size", hint="write it like 512MiB, 4GiB or 4GB")
    return int(match[1]) * factor + int(float(match[2] or 0) * factor)


def render_count(count: int) -> str:
    """`count` in short decimal form as model names use it: `7.62 B`, `494 M`, `1.90 M`, `512`."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        value = count / limit
        if value >= 0.9995:  # 999,999 is `1.00 M`, not `1000 K`
            return f"{value:.2f} {unit}" if value < 99.995 else f"{value:.0f} {unit}"
    return str(count)


def parse_duration(text: str) -> float:
    """Seconds that `text` names: `300`, `5m`, `1h30m`, `250ms`; `-1` is infinity (forever).

    Raises: UsageError when it is not a duration.
    """
    plain = text.strip().lower()
    if plain in {"-1", "forever"}:
        return float("inf")
    if re.fullmatch(_SPAN, plain, re.ASCII):
        return float(plain)
    if not re.fullmatch(rf"(?:{_SPAN}\s*(?:ms|[smhd])\s*)+", plain, re.ASCII):
        raise UsageError(f"`{text}` is not a duration", hint="write it like 90s, 5m, 1h30m or -1")
    parts = re.findall(rf"({_SPAN})\s*(ms|[smhd])", plain, re.ASCII)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def render_duration(seconds: float) -> str:
    """`seconds` as two units at the most: `0.4s`, `42s`, `3m 05s`, `2h 10m`, `3d 4h`."""
    if seconds == float("inf"):
        return "forever"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def render_rate(bytes_per_second: float) -> str:
    """A transfer rate in binary units: `112 MiB/s`."""
    return f"{render_bytes(int(bytes_per_second))}/s"
