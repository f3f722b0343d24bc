"""Bytes, counts, durations and rates, read and written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import UsageError
from qwenctl.units import (
    parse_bytes,
    parse_duration,
    render_bytes,
    render_count,
    render_duration,
    render_rate,
)

K, M, G, T = 1024, 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * K, "10.0 KiB"),
        (100 * K, "100 KiB"),
        (M - 1, "1.00 MiB"),
        (M, "1.00 MiB"),
        (4_683_073_184, "4.36 GiB"),
        (9_995 * M // 1000, "9.99 MiB"),
        (G, "1.00 GiB"),
        (T, "1.00 TiB"),
        (5000 * T, "5000 TiB"),
        (-1536, "-1.50 KiB"),
        (-5, "-5 B"),
    ],
)
def test_bytes_are_written(count: int, text: str) -> None:
    """Binary units with three digits, never four before the unit changes."""
    assert render_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1048576", M),
        ("1B", 1),
        ("4KiB", 4 * K),
        ("4k", 4 * K),
        ("4kB", 4000),
        ("4 KB", 4000),
        ("512m", 512 * M),
        ("512MiB", 512 * M),
        ("512 mb", 512 * 1000**2),
        ("4GiB", 4 * G),
        ("4G", 4 * G),
        ("4GB", 4 * 1000**3),
        ("1.5GiB", 3 * G // 2),
        ("0.5 t", T // 2),
        ("2TiB", 2 * T),
        ("2tb", 2 * 1000**4),
        (" 7 ", 7),
        ("9007199254740993", 9007199254740993),
        ("9007199254740993 KiB", 9007199254740993 * K),
    ],
)
def test_bytes_are_read(text: str, count: int) -> None:
    """GiB and GB are not the same; a bare letter is binary; whole numbers stay exact."""
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GiB",
        "-1",
        "+1",
        "1e3",
        "1,5G",
        "1.",
        ".5",
        "1.5.5",
        "4 X",
        "4GiBs",
        "4 G B",
        "inf",
        "nan",
        "0x10",
        "9" * 400,
        "1." + "0" * 400,
        "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_what_is_no_size(text: str) -> None:
    """Anything else raises UsageError with an example."""
    with pytest.raises(UsageError, match="is not a size") as caught:
        parse_bytes(text)
    assert caught.value.hint


@given(st.integers(0, 2**62))
def test_bytes_come_back_nearly(count: int) -> None:
    """What is written reads back within the precision of three digits."""
    assert abs(parse_bytes(render_bytes(count)) - count) <= max(0.006 * count, 0)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (512, "512"),
        (999, "999"),
        (1000, "1.00 K"),
        (1_900_000, "1.90 M"),
        (494_000_000, "494 M"),
        (99_994_999, "99.99 M"),
        (99_996_000, "100 M"),
        (999_499, "999 K"),
        (999_500, "1.00 M"),
        (7_615_616_512, "7.62 B"),
        (1_000_000_000_000, "1.00 T"),
    ],
)
def test_counts_are_written(count: int, text: str) -> None:
    """Decimal units as model names use them, never four digits."""
    assert render_count(count) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300", 300),
        ("0", 0),
        ("1.5", 1.5),
        ("90s", 90),
        ("5m", 300),
        ("5 m", 300),
        ("1h30m", 5400),
        ("1H 30M", 5400),
        ("250ms", 0.25),
        ("1d", 86400),
        ("1m500ms", 60.5),
        ("1.5h", 5400),
        ("-1", float("inf")),
        (" Forever ", float("inf")),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """A bare number is seconds; parts with units add up; -1 is for ever."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "m",
        "5x",
        "-5",
        "-5m",
        "5 5",
        "5m5",
        "1h-30m",
        "1,5h",
        "inf",
        "nan",
        "1e3",
        "5 minutes",
        "9" * 400,
    ],
)
def test_what_is_no_duration(text: str) -> None:
    """Anything else raises UsageError with an example."""
    with pytest.raises(UsageError, match="is not a duration") as caught:
        parse_duration(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.44, "0.4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (42.4, "42s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (185, "3m 05s"),
        (3599.7, "1h 0m"),
        (7800, "2h 10m"),
        (86399.8, "1d 0h"),
        (3 * 86400 + 4 * 3600, "3d 4h"),
        (float("inf"), "forever"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    """Two units at the most, and rounding carries over."""
    assert render_duration(seconds) == text


def test_rates_are_written() -> None:
    """A rate is bytes, whole, per second."""
    assert render_rate(112.4 * M) == "112 MiB/s"
    assert render_rate(0.9) == "0 B/s"


@given(st.text(max_size=20))
def test_any_text_reads_or_is_refused(text: str) -> None:
    """Whatever is typed: a number that is not negative, or UsageError."""
    for parse in (parse_bytes, parse_duration):
        try:
            assert parse(text) >= 0
        except UsageError:
            continue
