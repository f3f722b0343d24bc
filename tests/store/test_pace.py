"""Advice on connections, fed with imagined transfers."""

from collections.abc import Callable

import pytest

from qwenctl.store.pace import MOST, Pace

MIB = 1 << 20


def settled(
    rate: Callable[[int], float], hash_share: float = 0.1, may_grow: bool = True, missing: int = 100_000
) -> list[int]:
    """The advice, changes only, over a minute in which `rate(connections)` MiB come in a second.

    `missing` is the size in MiB of which no byte is there in the beginning.
    """
    now, moved, hashed, advice = 0.0, 0.0, 0.0, [1]
    pace = Pace(now)
    for _ in range(6000):
        now += 0.01
        moved += rate(advice[-1]) * MIB * 0.01
        hashed += hash_share * 0.01
        wanted = pace.advise(now, int(moved), missing * MIB - int(moved), hashed, lambda: may_grow)
        if wanted != advice[-1]:
            advice.append(wanted)
    return advice


def test_connections_that_pay_are_kept() -> None:
    """Where each brings as much as the first, there are as many as we allow ourselves."""
    assert settled(lambda count: 50.0 * count) == [1, 2, 3, 4]
    assert MOST == 4


def test_a_connection_that_does_not_pay_goes() -> None:
    """One trial, and that is the end of it."""
    assert settled(lambda _: 50.0) == [1, 2, 1]
    assert settled(lambda count: 60.0 if count > 1 else 55.0) == [1, 2, 1]
    assert settled(lambda count: 90.0 - 40 * count) == [1, 2, 1]


def test_two_may_be_best() -> None:
    """The third is tried, and goes again."""
    assert settled(lambda count: 100.0 * min(count, 2)) == [1, 2, 3, 2]


def test_a_busy_hash_leaves_nothing_to_gain() -> None:
    """When hashing takes most of the time, no connection is tried."""
    assert settled(lambda count: 600.0 * count, hash_share=0.6) == [1]


def test_nothing_is_tried_that_is_not_allowed() -> None:
    """Without a free connection there is one."""
    assert settled(lambda count: 50.0 * count, may_grow=False) == [1]


@pytest.mark.parametrize("megabytes", [0.01, 1.0])
def test_slow_lines_are_measured_longer(megabytes: float) -> None:
    """A slow line, too, gets its trial, from the little that came."""
    assert settled(lambda count: megabytes * count) == [1, 2, 3, 4]


def test_what_is_nearly_done_is_left_alone() -> None:
    """Where little is missing, or it takes but seconds, a trial cannot pay."""
    assert settled(lambda count: 10.0 * count, missing=60) == [1]
    assert settled(lambda count: 600.0 * count, missing=2000) == [1]
    assert settled(lambda count: 200.0 * count, missing=2000)[:2] == [1, 2]


def test_settling_ends_the_trials() -> None:
    """After a refused connection there are no more trials."""
    pace = Pace(0.0)
    pace.settle(0)
    assert pace.advise(100.0, 1 << 40, 1 << 40, 0.0, lambda: True) == 1
