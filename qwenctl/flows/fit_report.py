"""The verdict as it is shown and as programs get it: the same numbers, each under one name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from qwenctl.model.host import Gpu, Host
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.figures import DeviceMemory, HostMemory
from qwenctl.model.memory.plan import PROCESS_BYTES, Plan, Shortage, Verdict, needed_ram_bytes
from qwenctl.model.memory.remedies import Remedy
from qwenctl.model.memory.words import need_text, remedy_text
from qwenctl.model.reach import Reach
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.flows.fit import Subject

Method = Literal["computed", "measured", "unknown"]


class DeviceFit(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on one GPU: llama.cpp's buffers, and beside them what the driver takes (`overhead`).

    `total` is all of that; `margin` is left free; it fits when `total + margin <= free`.
    """

    name: str
    description: str
    weights: int
    kv_cache: int
    compute: int
    overhead: int
    total: int
    free: int
    capacity: int
    margin: int


class HostFit(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes in RAM: llama.cpp's buffers, and the worker process beside them.

    `shared` is what GPUs without a memory of their own take of the RAM. `total` is all of that.
    """

    weights: int
    kv_cache: int
    compute: int
    output: int
    process: int
    shared: int
    total: int
    available: int
    capacity: int
    margin: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of llama.cpp's buffers, all places together."""

    weights: int
    kv_cache: int
    compute: int
    output: int
    total: int


class HeaderCost(msgspec.Struct, frozen=True, kw_only=True):
    """How the header was had, and what that cost on the network (0 for a file of this machine)."""

    method: str
    requests: int
    bytes: int


class CardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the model's card says, in bytes; the card's GB are GiB."""

    vram_bytes: int | None
    size_bytes: int | None


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one model and one machine.

    `unknown` has a `reason` and no numbers. `exact`: llama.cpp's figures to the byte. `context_max` is
    the longest context with the same verdict. `advice` is one sentence for a person, `notes` are more: on
    what a load would set that is not in the file.
    """

    name: str
    id: str | None
    architecture: str
    parameters: int
    quantization: str | None
    file_bytes: int
    trained_context: int | None
    verdict: Verdict | Literal["unknown"]
    reason: str | None = None
    simulated: bool
    method: Method
    exact: bool = False
    configuration: Configuration | None = None
    gpu_layers: int = 0
    layers: int = 0
    flash_attention: bool | None = None
    devices: list[DeviceFit] = []
    host: HostFit | None = None
    totals: Totals | None = None
    context_max: int | None = None
    shortage: Shortage | None = None
    remedies: list[Remedy] = []
    advice: str
    notes: list[str] = []
    header: HeaderCost
    card: CardFigures | None = None

    @property
    def fits(self) -> bool:
        """Whether it can be loaded; what is unknown may be tried."""
        return self.verdict != "no"


def describe(
    subject: "Subject", host: Host, plan: Plan, largest_context: int, remedies: Sequence[Remedy]
) -> Fit:
    """A plan in the words of the report."""
    estimate = plan.estimate
    gpus = [gpu for name in plan.devices for gpu in host.gpus if gpu.name == name]
    buffers: list[DeviceMemory | HostMemory] = [*estimate.devices, estimate.host]
    return msgspec.structs.replace(
        unknown_fit(subject, host, ""),
        verdict=plan.verdict,
        reason=None,
        method="measured" if estimate.method == "measured" else "computed",
        exact=estimate.exact,
        configuration=plan.configuration,
        gpu_layers=estimate.gpu_layers,
        layers=estimate.layers,
        flash_attention=estimate.flash_attention,
        devices=_devices(plan, gpus),
        host=_host(plan, gpus, host),
        totals=Totals(
            weights=sum(item.weights_bytes for item in buffers),
            kv_cache=sum(item.kv_cache_bytes for item in buffers),
            compute=sum(item.compute_bytes for item in buffers),
            output=estimate.host.output_bytes,
            total=estimate.total_bytes,
        ),
        context_max=largest_context,
        shortage=plan.shortage,
        remedies=[*remedies],
        advice=advise(plan, gpus, host, remedies),
        notes=[note] if (note := Reach.of(subject.shape).note(plan.configuration.context_tokens)) else [],
    )


def unknown_fit(subject: "Subject", host: Host, reason: str) -> Fit:
    """No numbers, and why."""
    shape, reason = subject.shape, _printable(reason)
    return Fit(
        name=_printable(subject.name),
        id=subject.id,
        architecture=_printable(shape.architecture),
        parameters=shape.parameters,
        quantization=subject.quantization,
        file_bytes=subject.file_bytes,
        trained_context=shape.context_length,
        verdict="unknown",
        reason=reason,
        simulated=host.simulated,
        method="unknown",
        advice=f"its memory is unknown: {reason}",
        header=HeaderCost(
            method=subject.header_method, requests=subject.header_requests, bytes=subject.header_bytes
        ),
    )


def advise(plan: Plan, gpus: Sequence[Gpu], host: Host, remedies: Sequence[Remedy]) -> str:
    """One sentence: what happens, and the change that would help most."""
    change = f"; {remedy_text(remedies[0])}" if remedies else ""
    estimate = plan.estimate
    if plan.shortage is not None:
        return f"{need_text(plan.shortage)}{change or '; choose a smaller variant'}"
    if plan.verdict == "cpu":
        used = render_bytes(needed_ram_bytes(estimate, gpus))
        available = render_bytes(host.ram.available_bytes)
        return f"runs on the CPU with {used} of RAM, {available} are available{change}"
    where = ", ".join(plan.devices)
    if plan.verdict == "partial":
        fitting = f"{estimate.gpu_layers} of {estimate.layers} layers fit on {where}"
        return f"{fitting}, {estimate.layers - estimate.gpu_layers} run on the CPU, slower{change}"
    left = min(
        gpu.free_bytes - gpu.overhead_bytes - device.total_bytes
        for gpu, device in zip(gpus, estimate.devices, strict=True)
    )
    return f"all {estimate.layers} layers fit on {where}, which leaves {render_bytes(left)} free"


def _printable(text: str) -> str:
    """A text of the file without characters that a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _devices(plan: Plan, gpus: Sequence[Gpu]) -> list[DeviceFit]:
    return [
        DeviceFit(
            name=gpu.name,
            description=gpu.description,
            weights=device.weights_bytes,
            kv_cache=device.kv_cache_bytes,
            compute=device.compute_bytes,
            overhead=gpu.overhead_bytes,
            total=device.total_bytes + gpu.overhead_bytes,
            free=gpu.free_bytes,
            capacity=gpu.total_bytes,
            margin=gpu.margin_bytes,
        )
        for device, gpu in zip(plan.estimate.devices, gpus, strict=True)
    ]


def _host(plan: Plan, gpus: Sequence[Gpu], host: Host) -> HostFit:
    memory = plan.estimate.host
    total = needed_ram_bytes(plan.estimate, gpus)
    return HostFit(
        weights=memory.weights_bytes,
        kv_cache=memory.kv_cache_bytes,
        compute=memory.compute_bytes,
        output=memory.output_bytes,
        process=PROCESS_BYTES,
        shared=total - memory.total_bytes - PROCESS_BYTES,
        total=total,
        available=host.ram.available_bytes,
        capacity=host.ram.total_bytes,
        margin=host.ram.margin_bytes,
    )
