"""What would make a model fit, or fit better: each remedy is a plan that was tried, not a guess."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import msgspec

from qwenctl.model.host import Gpu, Host, Ram
from qwenctl.model.memory.configuration import QUANTIZED_KV
from qwenctl.model.memory.figures import Estimate
from qwenctl.model.memory.plan import (
    PROCESS_BYTES,
    RANK,
    SMALLEST_CONTEXT_TOKENS,
    Plan,
    Planner,
    Verdict,
    Wishes,
)

RemedyKind = Literal["kv_type", "context", "unload"]


class Remedy(msgspec.Struct, frozen=True, kw_only=True):
    """One change and the verdict that it leads to.

    `subject` is the type of the KV cache, the tokens of context, or the name of the model to unload.
    """

    kind: RemedyKind
    subject: str
    verdict: Verdict


def find_remedies(planner: Planner, wishes: Wishes, plan: Plan, held: Mapping[str, Estimate]) -> list[Remedy]:
    """Changes that lead to a better verdict than the plan's, the least painful first.

    `held` is what each loaded model of ours takes. Nothing is to be done where all layers are on GPUs,
    or on the CPU of a machine that has no GPU.
    """
    content = RANK["gpus"] if planner.host.gpus else RANK["cpu"]
    if RANK[plan.verdict] >= content:
        return []
    found: list[Remedy] = []
    for kind, subject, changed, wished in _changes(planner, wishes, held):
        if kind == "context" and any(remedy.kind == "context" for remedy in found):
            break  # the longest that helps is enough
        verdict = changed.plan(wished).verdict
        if RANK[verdict] > RANK[plan.verdict]:
            found.append(Remedy(kind=kind, subject=subject, verdict=verdict))
    return found


def _changes(
    planner: Planner, wishes: Wishes, held: Mapping[str, Estimate]
) -> Iterator[tuple[RemedyKind, str, Planner, Wishes]]:
    for name, estimate in held.items():
        yield "unload", name, replace(planner, host=without_model(planner.host, estimate)), wishes
    if wishes.kv_type not in QUANTIZED_KV and wishes.flash_attention != "off":
        yield "kv_type", "q8_0", planner, msgspec.structs.replace(wishes, kv_type="q8_0")
    asked = min(wishes.context_tokens or 0, 2 * planner.reach.most_tokens)
    while asked >= 2 * SMALLEST_CONTEXT_TOKENS:
        asked //= 2
        yield "context", str(asked), planner, msgspec.structs.replace(wishes, context_tokens=asked)


def without_model(host: Host, held: Estimate) -> Host:
    """The machine after a model has left it that held this."""
    freed = {device.name: device.total_bytes for device in held.devices}
    gpus = tuple(_freed(gpu, freed.get(gpu.name, 0)) for gpu in host.gpus)
    more = held.host.total_bytes + PROCESS_BYTES
    available = min(host.ram.total_bytes, host.ram.available_bytes + more)
    ram = Ram(total_bytes=host.ram.total_bytes, available_bytes=available)
    return msgspec.structs.replace(host, gpus=gpus, ram=ram)


def _freed(gpu: Gpu, more_bytes: int) -> Gpu:
    """The driver's own part goes with the process."""
    more = more_bytes + gpu.overhead_bytes if more_bytes else 0
    return msgspec.structs.replace(gpu, free_bytes=min(gpu.total_bytes, gpu.free_bytes + more))
