"""Numbers between bounds as expressions of a grammar, exact to the digit. Pure.

Numbers are written without an exponent, and open ends have the most digits that llama.cpp's own rules allow.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

MOST_DIGITS: Final = 64
_OPEN_DIGITS: Final = 16
_FREE: Final = "[0-9]{0,15}"


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, where None is without end; `…_open` leaves the bound itself out."""

    low: Decimal | None = None
    high: Decimal | None = None
    low_open: bool = False
    high_open: bool = False


def integers(interval: Interval) -> str | None:
    """The whole numbers in it; None when there are none, ValueError for bounds with too many digits."""
    low = None if interval.low is None else _ceiling(interval.low, interval.low_open)
    high = None if interval.high is None else -_ceiling(-interval.high, interval.high_open)
    if low is not None and high is not None and low > high:
        return None
    options = []
    if low is None or low < 0:
        top = None if low is None else -low
        least = 1 if high is None or high >= 0 else -high
        options += [f'"-" {option}' for option in _whole(least, top)]
    if high is None or high >= 0:
        options += _whole(max(low or 0, 0), high)
    return f"({' | '.join(options)})" if options else None


def decimals(interval: Interval) -> str | None:
    """All numbers in it; None when there are none, ValueError for bounds with too many digits."""
    low, high = interval.low, interval.high
    options = []
    if low is None or low < 0:
        inner = high is not None and high <= 0
        nearest = -high if high is not None and inner else Decimal(0)
        farthest = None if low is None else -low
        numbers = _parts(nearest, farthest, inner and interval.high_open, interval.low_open)
        options += [f'"-" {number}' for number in numbers]
    if high is None or high >= 0:
        inner = low is not None and low >= 0
        nearest = low if low is not None and inner else Decimal(0)
        options += _parts(nearest, high, inner and interval.low_open, interval.high_open)
    return f"({' | '.join(options)})" if options else None


def _ceiling(bound: Decimal, is_open: bool) -> int:
    """The least whole number that is not below `bound`, nor `bound` itself where that is left out."""
    if bound.adjusted() > MOST_DIGITS:
        raise ValueError("too many digits")
    return math.floor(bound) + 1 if is_open else math.ceil(bound)


def _whole(low: int, high: int | None) -> list[str]:
    """Whole numbers that are not negative, by the number of their digits."""
    options: list[str] = []
    width = len(str(low))
    while high is None or width <= len(str(high)):
        first, last = (0 if width == 1 else 10 ** (width - 1)), 10**width - 1
        if high is None and first > 0 and low <= first:
            return [*options, f"[1-9] [0-9]{{{width - 1},{max(_OPEN_DIGITS, width) - 1}}}"]
        start, end = max(low, first), last if high is None else min(high, last)
        options.append(_same_width(str(start), str(end)))
        width += 1
    return options


def _same_width(low: str, high: str) -> str:
    """Digits from `low` to `high`, which are as many."""
    if not low:
        return '""'
    if set(low) == {"0"} and set(high) == {"9"}:
        return f"[0-9]{{{len(low)}}}"
    if low[0] == high[0]:
        rest = f" {_same_width(low[1:], high[1:])}" if len(low) > 1 else ""
        return f'"{low[0]}"{rest}'
    if len(low) == 1:
        return f"[{low}-{high}]"
    nines, zeros = "9" * (len(low) - 1), "0" * (len(low) - 1)
    first, last = int(low[0]), int(high[0])
    options = []
    if low[1:] != zeros:
        options.append(f'"{first}" {_same_width(low[1:], nines)}')
        first += 1
    if high[1:] != nines:
        last -= 1
    if first <= last:
        options.append(f"[{first}-{last}] [0-9]{{{len(low) - 1}}}")
    if high[1:] != nines:
        options.append(f'"{high[0]}" {_same_width(zeros, high[1:])}')
    return f"({' | '.join(options)})"


def _parts(low: Decimal, high: Decimal | None, low_open: bool, high_open: bool) -> list[str]:
    """Numbers that are not negative: by the whole numbers between, and the fractions at both ends."""
    if high is not None and low > high:
        return []
    whole, fraction = _split(low)
    if high is None:
        ends = {whole: _fraction(fraction, None, low_open, False)}
        between = _whole(whole + 1, None)
    elif whole == _split(high)[0]:
        ends = {whole: _fraction(fraction, _split(high)[1], low_open, high_open)}
        between = []
    else:
        top, top_fraction = _split(high)
        ends = {
            whole: _fraction(fraction, None, low_open, False),
            top: _fraction(None, top_fraction, False, high_open),
        }
        between = _whole(whole + 1, top - 1) if whole + 1 < top else []
    options = [f'"{number}" {digits}' for number, digits in ends.items() if digits is not None]
    return options + [f'{number} ("." [0-9]{{1,16}})?' for number in between]


def _split(number: Decimal) -> tuple[int, str]:
    """The whole part, and the digits behind the point without zeros at the end."""
    if number.adjusted() > MOST_DIGITS or -int(number.as_tuple().exponent) > MOST_DIGITS:
        raise ValueError("too many digits")
    whole, _, fraction = f"{number:f}".partition(".")
    return int(whole), fraction.rstrip("0")


def _fraction(low: str | None, high: str | None, low_open: bool, high_open: bool) -> str | None:
    """The point and the digits behind a whole number, or nothing where that is enough; None for impossible.

    `low` and `high` are the digits of the bounds, None where the whole number is far from the bound.
    """
    may_end = (low is None or (low == "" and not low_open)) and not (high == "" and high_open)
    digits = _digits(low, high, low_open, high_open, some=True)
    if digits is None:
        return '""' if may_end else None
    return f'("." {digits})?' if may_end else f'"." {digits}'


def _digits(
    low: str | None, high: str | None, low_open: bool, high_open: bool, *, some: bool = False
) -> str | None:
    """The digits that may follow where these are left of the bounds; with `some` one at the least."""
    if low == "" and not low_open:
        low = None
    if high == "":
        return None if high_open or low is not None else "[0]{1,4}" if some else "[0]{0,4}"
    if high is None and not low:
        free = "[0-9]{1,16}" if some else "[0-9]{0,15}"
        return free if low is None else f"[0]{{0,15}} [1-9] {_FREE}"
    first, last = int((low or "0")[0]), 9 if high is None else int(high[0])
    options = [None if some or low is not None else '""']
    if low is not None and high is not None and first == last:
        options.append(_after(first, _digits(low[1:], high[1:], low_open, high_open)))
    else:
        if low is not None:
            options.append(_after(first, _digits(low[1:], None, low_open, False)))
            first += 1
        if high is not None:
            options.append(_after(last, _digits(None, high[1:], False, high_open)))
            last -= 1
        options.append(f"[{first}-{last}] {_FREE}" if first <= last else None)
    possible = [option for option in options if option is not None]
    return f"({' | '.join(possible)})" if possible else None


def _after(digit: int, rest: str | None) -> str | None:
    return None if rest is None else f'"{digit}" {rest}'
