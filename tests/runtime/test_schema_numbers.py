"""Numbers between bounds: what the expressions derive, against comparing."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from qwenctl.runtime.schema_numbers import Interval, decimals, integers
from tests.runtime.grammar_reader import read

BOUND = st.decimals(-1200, 1200, allow_nan=False, allow_infinity=False, places=2) | st.integers(
    -1200, 1200
).map(Decimal)
STEPS = [Decimal(step) for step in ("0", "1", "-1", "0.1", "-0.1", "0.01", "-0.001")]


def inside(number: Decimal, interval: Interval) -> bool:
    """Whether it lies between the bounds."""
    low, high = interval.low, interval.high
    above = low is None or (number > low if interval.low_open else number >= low)
    return above and (high is None or (number < high if interval.high_open else number <= high))


def derives(expression: str | None, text: str) -> bool:
    """Whether an expression derives a text; the impossible one derives nothing."""
    return expression is not None and read(f"root ::= {expression}\n").derives(text)


@given(BOUND, BOUND, st.booleans(), st.booleans(), st.sampled_from(["both", "low", "high"]), st.data())
def test_exactly_the_numbers_between(
    one: Decimal, other: Decimal, low_open: bool, high_open: bool, ends: str, data: st.DataObject
) -> None:
    """Whole numbers and decimals, negative ones too, at the bounds and beside them."""
    low, high = sorted((one, other))
    interval = Interval(None if ends == "high" else low, None if ends == "low" else high, low_open, high_open)
    number = data.draw(st.sampled_from([low, high]) | BOUND) + data.draw(st.sampled_from(STEPS))
    whole, text = int(number), f"{number:f}"
    assert derives(integers(interval), str(whole)) == inside(Decimal(whole), interval)
    if number != 0:  # -0 is a number too, but not written in one way
        assert derives(decimals(interval), text) == inside(number, interval)
        longer = text + ("00" if "." in text else ".00")
        assert derives(decimals(interval), longer) == inside(number, interval)


@given(BOUND, st.sampled_from(["", "-", "01", "-01", "1.", ".5", "1e3", "+1"]))
def test_what_is_no_number_is_not_said(bound: Decimal, text: str) -> None:
    """No leading zeros, no point without digits."""
    for interval in (Interval(bound, None), Interval(None, bound), Interval(bound - 3, bound + 3)):
        assert not derives(integers(interval), text)
        assert not derives(decimals(interval), text)


def test_bounds_have_many_digits() -> None:
    """Beyond what a machine's integer holds."""
    low, high = Decimal(10**30 + 7), Decimal(10**31)
    expression = integers(Interval(low, high))
    assert derives(expression, str(10**30 + 7)) and derives(expression, str(10**31))
    assert not derives(expression, str(10**30 + 6)) and not derives(expression, str(10**31 + 1))
