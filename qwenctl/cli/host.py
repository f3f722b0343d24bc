"""`qwenctl host`: what this machine has for models, or what a machine profile says."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, fields, table
from qwenctl.units import render_bytes

if TYPE_CHECKING:
    from qwenctl.model.host import Gpu, Host, Ram


class RamReport(msgspec.Struct, frozen=True, kw_only=True):
    """The RAM, what a plan leaves of it, and what one more model may take."""

    total_bytes: int
    available_bytes: int
    margin_bytes: int
    budget_bytes: int


class GpuReport(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU with the fields of `Gpu`, what a plan leaves free, and what one more model may take."""

    name: str
    backend: str
    description: str
    total_bytes: int
    free_bytes: int
    overhead_bytes: int
    margin_bytes: int
    budget_bytes: int
    shares_ram: bool
    id: str | None


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What one of our loaded models holds; `gpu_bytes` by the name of the GPU."""

    name: str
    gpu_bytes: dict[str, int]
    ram_bytes: int


class HostReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `host --json`. `simulated`: it is a profile and no machine. `held` is not free now."""

    name: str
    simulated: bool
    cores: int
    ram: RamReport
    gpus: tuple[GpuReport, ...]
    source: str
    notes: tuple[str, ...]
    held: tuple[Held, ...]


def host(
    profile: Annotated[
        Path | None, typer.Option("--host", metavar="FILE", help="Show this machine profile instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the memory, the cores and the GPUs that models may use, and what loaded models hold.

    Example: qwenctl host --json | jq '.data.gpus[].budget_bytes'
    """
    from qwenctl.cli.memory import open_machine
    from qwenctl.cli.wiring import load_settings

    machine = open_machine(load_settings(), profile)
    held = tuple(
        Held(
            name=name,
            gpu_bytes={device.name: device.total_bytes for device in taken.devices},
            ram_bytes=taken.host.total_bytes,
        )
        for name, taken in machine.held.items()
    )
    Printer("host", json).result(_report(machine.host, held), _text(machine.host, held))


def _report(host: "Host", held: tuple[Held, ...]) -> HostReport:
    return HostReport(
        name=host.name,
        simulated=host.simulated,
        cores=host.cores,
        ram=_ram_report(host.ram),
        gpus=tuple(_gpu_report(gpu) for gpu in host.gpus),
        source=host.source,
        notes=host.notes,
        held=held,
    )


def _ram_report(ram: "Ram") -> RamReport:
    return RamReport(
        **msgspec.structs.asdict(ram), margin_bytes=ram.margin_bytes, budget_bytes=ram.budget_bytes
    )


def _gpu_report(gpu: "Gpu") -> GpuReport:
    return GpuReport(
        **msgspec.structs.asdict(gpu), margin_bytes=gpu.margin_bytes, budget_bytes=gpu.budget_bytes
    )


def _text(host: "Host", held: Sequence[Held]) -> str:
    ram = f"{render_bytes(host.ram.available_bytes)} available of {render_bytes(host.ram.total_bytes)}"
    facts = [
        ("Name", f"{host.name} (simulated)" if host.simulated else host.name),
        ("Cores", str(host.cores)),
        ("RAM", ram),
        ("GPUs", f"{len(host.gpus) or 'none'} ({host.source})"),
        *(("Held", _held_text(item)) for item in held),
        *(("Note", note) for note in host.notes),
    ]
    return "\n".join([fields(facts), *(["", _table(host.gpus)] if host.gpus else [])])


def _held_text(held: Held) -> str:
    parts = [f"{render_bytes(taken)} on {gpu}" for gpu, taken in held.gpu_bytes.items()]
    return f"{' and '.join([*parts, f'{render_bytes(held.ram_bytes)} of RAM'])} by {held.name}"


def _table(gpus: "Sequence[Gpu]") -> str:
    headers = ("NAME", "DESCRIPTION", "BACKEND", "FREE", "TOTAL", "MARGIN")
    return table(headers, [_row(gpu) for gpu in gpus])


def _row(gpu: "Gpu") -> tuple[str, ...]:
    return (
        gpu.name,
        gpu.description or "-",
        gpu.backend,
        render_bytes(gpu.free_bytes),
        f"{render_bytes(gpu.total_bytes)}{' of the RAM' if gpu.shares_ram else ''}",
        render_bytes(gpu.margin_bytes),
    )
