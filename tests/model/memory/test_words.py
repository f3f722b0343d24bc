"""Plans in words: one line on a load, what is short and by how much, and what helps."""

import pytest

from qwenctl.model.host import Host
from qwenctl.model.memory.plan import Plan, Shortage, Wishes
from qwenctl.model.memory.remedies import Remedy
from qwenctl.model.memory.words import (
    load_line,
    needs_text,
    remedies_text,
    remedy_text,
    shortage_text,
    tokens_text,
)
from tests.model.memory.plan_builders import GIB, machine, planner, qwen


def planned(host: Host, wishes: Wishes | None = None) -> Plan:
    """Qwen2.5 7B in Q4_K_M on a machine."""
    return planner(qwen(), host).plan(wishes or Wishes())


@pytest.mark.parametrize(
    ("host", "line"),
    [
        (machine(28, 16), "Q4_K_M · 29/29 layers on GPU · 32k context · 11.5 of 32.0 GiB"),
        (machine(28, 4, 4), "Q4_K_M · 29/29 layers on 2 GPUs · 32k context · 6.97 of 16.0 GiB"),
        (machine(28, 4), "Q4_K_M · 20/29 layers on GPU · 8k context · 3.67 of 8.00 GiB"),
        (machine(28), "Q4_K_M · on the CPU · 8k context · 6.38 of 56.0 GiB RAM"),
        (machine(28, 0.5), "Q4_K_M · on the CPU · 8k context · 6.38 of 56.0 GiB RAM"),
    ],
)
def test_one_line_on_a_load(host: Host, line: str) -> None:
    """Quantization, layers, context, and what of the memory it takes, with one unit where one does."""
    assert load_line("Q4_K_M", planned(host)) == line


def test_one_line_on_a_load_of_odd_sizes() -> None:
    """Two units where they differ, and whatever context was asked for."""
    line = load_line(None, planned(machine(28, 2), Wishes(context_tokens=5000, slots=1, gpu_layers=1)))
    assert line == "unknown quantization · 1/29 layers on GPU · 5000 context · 912 MiB of 4.00 GiB"


def test_a_shortage_has_both_numbers() -> None:
    """What is needed, where, and how much may be taken there."""
    ram = planned(machine(4)).shortage
    assert ram is not None
    assert shortage_text("qwen2.5:7B", ram) == "`qwen2.5:7B` needs 4.84 GiB of RAM, 3.60 GiB can be used"
    on_gpu = Shortage(place="CUDA1", needed_bytes=7 * GIB, budget_bytes=0)
    assert shortage_text("x", on_gpu) == "`x` needs 7.00 GiB of memory on CUDA1, 0 B can be used"


def test_what_a_plan_takes_of_each_place() -> None:
    """GPUs, then the RAM."""
    assert needs_text(planned(machine(28, 4))) == (
        "3.67 GiB of 4.00 GiB free on CUDA0 and 1.76 GiB of 28.0 GiB free in RAM"
    )


@pytest.mark.parametrize(
    ("remedy", "text"),
    [
        (
            Remedy(kind="unload", subject="guide", verdict="gpu"),
            "`qwenctl stop guide` puts all layers on the GPU",
        ),
        (Remedy(kind="kv_type", subject="q8_0", verdict="gpus"), "`--kv q8_0` puts all layers on the GPUs"),
        (Remedy(kind="context", subject="4096", verdict="cpu"), "`--context 4096` makes it fit"),
        (
            Remedy(kind="context", subject="4096", verdict="partial"),
            "`--context 4096` puts some layers on the GPU",
        ),
    ],
)
def test_a_remedy_is_what_to_type_and_what_it_does(remedy: Remedy, text: str) -> None:
    """The flag or command, and the verdict that it leads to."""
    assert remedy_text(remedy) == text


def test_all_remedies() -> None:
    """One after the other; nothing where there is none."""
    kv, context = (
        Remedy(kind="kv_type", subject="q8_0", verdict="cpu"),
        Remedy(kind="context", subject="4096", verdict="cpu"),
    )
    assert remedies_text([kv, context]) == "`--kv q8_0` makes it fit; `--context 4096` makes it fit"
    assert remedies_text([]) is None


@pytest.mark.parametrize(
    ("tokens", "text"), [(32_768, "32k"), (1024, "1k"), (1000, "1000"), (40_000, "40000"), (512, "512")]
)
def test_tokens(tokens: int, text: str) -> None:
    """Short where that is exact."""
    assert tokens_text(tokens) == text
