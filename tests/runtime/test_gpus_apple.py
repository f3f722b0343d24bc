"""Apple's GPU over made-up answers of sysctl."""

import subprocess
from collections.abc import Sequence

import pytest

from qwenctl.runtime.gpus_apple import Sysctl, apple_cards

GIB = 1 << 30


def sysctl(**values: object) -> Sysctl:
    """A system that knows `values`, with underlines for the dots of names; others fail as with sysctl."""

    def run(argv: Sequence[str]) -> str:
        program, option, name = argv
        assert (program, option) == ("/usr/sbin/sysctl", "-n")
        if name.replace(".", "_") not in values:
            raise subprocess.CalledProcessError(1, argv)
        return f"{values[name.replace('.', '_')]}\n"

    return run


@pytest.mark.parametrize(
    ("memory_gib", "limit_mib", "working_set"),
    [
        (24, 0, 16 * GIB),
        (36, 0, 24 * GIB),
        (64, 0, 48 * GIB),
        (64, 57344, 56 * GIB),
        (64, 999999, 64 * GIB),
    ],
)
def test_the_working_set(memory_gib: int, limit_mib: int, working_set: int) -> None:
    """Two thirds of a small machine's RAM, three quarters of a large one's, or what the administrator set."""
    answers = sysctl(
        hw_memsize=memory_gib * GIB,
        hw_optional_arm64=1,
        iogpu_wired_limit_mb=limit_mib,
        machdep_cpu_brand_string="Apple M3 Max",
    )
    (card,) = apple_cards(answers, "darwin")
    assert (card.vendor, card.description, card.shares_ram) == ("apple", "Apple M3 Max", True)
    assert (card.total_bytes, card.free_bytes) == (working_set, working_set)


def test_older_systems_have_no_limit_to_ask_for() -> None:
    """Without the key, and without a name, the GPU is there all the same."""
    (card,) = apple_cards(sysctl(hw_memsize=24 * GIB, hw_optional_arm64=1), "darwin")
    assert (card.total_bytes, card.description) == (16 * GIB, "Apple GPU")


def test_other_machines() -> None:
    """A Mac with Intel's processor, a sysctl that does not answer and another system have none."""
    assert apple_cards(sysctl(hw_memsize=24 * GIB), "darwin") == ()
    assert apple_cards(sysctl(), "darwin") == ()
    assert apple_cards(sysctl(hw_memsize=24 * GIB, hw_optional_arm64=1), "linux") == ()
    assert apple_cards(platform="linux") == ()
