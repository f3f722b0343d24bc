"""Remedies: each one, taken, leads to the verdict that it promises; and nothing better is kept back."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwenctl.model.host import Gpu, Host, Ram
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory
from qwenctl.model.memory.plan import PROCESS_BYTES, RANK, Plan, Wishes
from qwenctl.model.memory.remedies import Remedy, find_remedies
from tests.model.memory.plan_builders import GIB, Computing, machine, planner, qwen, small

Held = Mapping[str, Estimate]
NOTHING: Held = {}


def held(on_gpu_gib: float, in_ram_gib: float = 0.5, gpu: str = "CUDA0") -> Estimate:
    """What a loaded model of ours takes."""
    return Estimate(
        method="loaded",
        devices=(DeviceMemory(name=gpu, weights_bytes=int(on_gpu_gib * GIB)),),
        host=HostMemory(weights_bytes=int(in_ram_gib * GIB)),
        gpu_layers=1,
        layers=1,
        flash_attention=True,
    )


def remedies(model: Computing, host: Host, wishes: Wishes, loaded: Held = NOTHING) -> list[Remedy]:
    """The remedies for the plan of a model on a machine."""
    plans = planner(model, host)
    return find_remedies(plans, wishes, plans.plan(wishes), loaded)


def taken(remedy: Remedy, model: Computing, host: Host, wishes: Wishes, loaded: Held) -> Plan:
    """The plan after a remedy was taken, worked out apart from the code under test."""
    plans = planner(model, host)
    if remedy.kind == "unload":
        plans = replace(plans, host=without(host, loaded[remedy.subject]))
    elif remedy.kind == "kv_type":
        wishes = msgspec.structs.replace(wishes, kv_type=remedy.subject)
    else:
        wishes = msgspec.structs.replace(wishes, context_tokens=int(remedy.subject))
    return plans.plan(wishes)


def without(host: Host, estimate: Estimate) -> Host:
    """The machine once a loaded model has left it, with its process and the driver's part of it."""
    (device,) = estimate.devices

    def after(gpu: Gpu) -> Gpu:
        freed = device.total_bytes + gpu.overhead_bytes if gpu.name == device.name else 0
        return msgspec.structs.replace(gpu, free_bytes=min(gpu.total_bytes, gpu.free_bytes + freed))

    available = host.ram.available_bytes + estimate.host.total_bytes + PROCESS_BYTES
    ram = Ram(total_bytes=host.ram.total_bytes, available_bytes=min(available, host.ram.total_bytes))
    return msgspec.structs.replace(host, ram=ram, gpus=tuple(after(gpu) for gpu in host.gpus))


def shown(found: list[Remedy]) -> list[tuple[str, str, str]]:
    """Remedies as tuples."""
    return [(remedy.kind, remedy.subject, remedy.verdict) for remedy in found]


@settings(max_examples=100, deadline=None)
@given(
    st.floats(0, 2),
    st.floats(0, 1.5),
    st.floats(0.1, 1),
    st.builds(
        Wishes,
        context_tokens=st.sampled_from([None, 9000, 32_768]),
        slots=st.sampled_from([None, 2]),
        kv_type=st.sampled_from(["f16", "q8_0"]),
        flash_attention=st.sampled_from(["auto", "on"]),
    ),
)
def test_a_remedy_keeps_its_word(ram: float, free: float, loaded_gib: float, wishes: Wishes) -> None:
    """Each remedy, taken, gives exactly the verdict that it promises, and a better one than before."""
    host, loaded = machine(ram, free), {"other": held(loaded_gib)}
    before = planner(small(), host).plan(wishes)
    for remedy in remedies(small(), host, wishes, loaded):
        assert taken(remedy, small(), host, wishes, loaded).verdict == remedy.verdict
        assert RANK[remedy.verdict] > RANK[before.verdict]


def test_nothing_is_to_be_done_where_all_is_well() -> None:
    """All layers on GPUs, or on the CPU of a machine without one."""
    assert remedies(qwen(), machine(28, 16), Wishes(), {"other": held(4)}) == []
    assert remedies(qwen(), machine(28), Wishes(), {"other": held(4)}) == []


def test_a_quantized_cache() -> None:
    """Half the cache lets all layers stay on the GPU, or lets the model fit at all."""
    asked = Wishes(context_tokens=32_768, slots=2)
    assert ("kv_type", "q8_0", "gpu") in shown(remedies(qwen(), machine(28, 7.7), asked))
    assert shown(remedies(qwen(), machine(7.3), asked))[0] == ("kv_type", "q8_0", "cpu")


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(context_tokens=32_768, slots=2, kv_type="q4_0"),
        Wishes(context_tokens=32_768, slots=2, flash_attention="off"),
    ],
)
def test_no_cache_is_quantized_twice_or_without_flash_attention(wishes: Wishes) -> None:
    """What cannot be is not advised."""
    assert "kv_type" not in {remedy.kind for remedy in remedies(qwen(), machine(28, 7), wishes)}


def test_the_longest_context_that_helps() -> None:
    """Halves of what was asked for; one is named, and none where the plan chose the context itself."""
    asked = Wishes(context_tokens=40_000, slots=1)
    assert ("context", "20000", "gpu") in shown(remedies(qwen(), machine(28, 6), asked))
    assert [item for item in shown(remedies(qwen(), machine(28, 5.2), asked)) if item[0] == "context"] == [
        ("context", "5000", "gpu")
    ]
    assert "context" not in {item.kind for item in remedies(qwen(), machine(28, 4), Wishes())}


def test_unloading_a_model_of_ours() -> None:
    """The models that would help are named, each by itself, before anything else."""
    loaded = {"large": held(4), "tiny": held(0.1), "elsewhere": held(4, gpu="CUDA7")}
    found = remedies(qwen(), machine(28, 4), Wishes(context_tokens=8192, slots=1), loaded)
    assert shown(found)[0] == ("unload", "large", "gpu")
    assert [item.subject for item in found if item.kind == "unload"] == ["large"]


def test_unloading_frees_no_more_than_the_machine_has() -> None:
    """A model that seems to hold more than the card is not believed."""
    host = machine(28, 3)  # of 6 GiB in all
    found = remedies(qwen(), host, Wishes(context_tokens=32_768, slots=1), {"vast": held(100)})
    assert "vast" not in {item.subject for item in found if item.verdict == "gpu"}


def test_unloading_frees_ram() -> None:
    """On a machine without a GPU, with the process of the model."""
    loaded = {"other": held(0, 2.5)}
    assert shown(remedies(qwen(), machine(4), Wishes(), loaded)) == [("unload", "other", "cpu")]


def test_layers_that_are_asked_for_are_not_questioned() -> None:
    """Who asks for some layers on the GPU, or none, is not told how to get all of them there."""
    assert remedies(qwen(), machine(28, 8), Wishes(gpu_layers=0), {"other": held(4)}) == []
    assert remedies(qwen(), machine(28, 8), Wishes(gpu_layers=10), {"other": held(4)}) == []


def test_a_model_that_never_fits_has_no_remedy() -> None:
    """No change is made up where none helps."""
    assert remedies(qwen("qwen2.5-14b"), machine(3, 2), Wishes(context_tokens=8192), {"x": held(1)}) == []
