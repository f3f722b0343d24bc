"""What `qwenctl fit` prints for people: bars for weights, KV cache, compute and free, and one sentence."""

from collections.abc import Iterable
from typing import Final

from qwenctl.cli.output import table
from qwenctl.flows.fit_model import Asked
from qwenctl.flows.fit_report import DeviceFit, Fit, HostFit
from qwenctl.model.host import Host
from qwenctl.model.memory.words import tokens_text
from qwenctl.units import render_bytes, render_count

_BAR_WIDTH: Final = 24
_SIGNS: Final = "█▓▒░"  # weights, KV cache, compute, what driver or process take
_FREE: Final = "·"
_OVER: Final = "!"
_LEGEND: Final = "█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much"


def render(asked: Asked, host: Host) -> str:
    """The verdict in full, or the table of variants and the sentence on the one that was asked for."""
    if len(asked.variants) == 1 and not asked.problems:
        return _one(asked.selected, host)
    parts = [_machine(host), _variants(asked), _LEGEND, f"{asked.selected.name}: {asked.selected.advice}"]
    parts[3:3] = ["\n".join(f"{name}: {problem}" for name, problem in asked.problems)] * bool(asked.problems)
    return "\n\n".join(parts)


def verdict_text(fit: Fit) -> str:
    """The verdict in a few words."""
    return {
        "gpu": "on the GPU",
        "gpus": f"on {len(fit.devices)} GPUs",
        "partial": f"{fit.gpu_layers}/{fit.layers} layers on GPU",
        "cpu": "on the CPU",
        "no": "does not fit",
        "unknown": "unknown",
    }[fit.verdict]


def _one(fit: Fit, host: Host) -> str:
    about = [fit.name, f"{render_count(fit.parameters)} parameters", fit.quantization or "", fit.architecture]
    lines = [" · ".join(part for part in (*about, render_bytes(fit.file_bytes)) if part)]
    if fit.trained_context:
        lines.append(f"trained for {fit.trained_context} tokens of context{_longest(fit)}")
    if fit.card and (fit.card.vram_bytes or fit.card.size_bytes):
        lines.append(
            f"its card says {_or_dash(fit.card.vram_bytes)} VRAM, {_or_dash(fit.card.size_bytes)} size"
        )
    parts = ["\n".join(lines), _machine(host)]
    if fit.configuration is not None and fit.host is not None:
        parts += [_setting(fit), _places(fit, fit.host), _LEGEND]
    return "\n\n".join([*parts, f"{verdict_text(fit)}: {fit.advice}"])


def _longest(fit: Fit) -> str:
    return f"; {fit.context_max} fit here" if fit.context_max else ""


def _setting(fit: Fit) -> str:
    configuration = fit.configuration
    assert configuration is not None
    slots = (
        f"{configuration.slots} requests side by side" if configuration.slots > 1 else "1 request at a time"
    )
    flash = "on" if fit.flash_attention else "off"
    how = f"{fit.method}, exact" if fit.exact else f"{fit.method}, within 3 %"
    return (
        f"{tokens_text(configuration.context_tokens)} context · {slots} · KV {configuration.kv_type} · "
        f"flash attention {flash} · {fit.gpu_layers}/{fit.layers} layers on GPU · {how}"
    )


def _places(fit: Fit, host: HostFit) -> str:
    rows = [_row(device.name, device, device.overhead, device.free, device.margin) for device in fit.devices]
    rows.append(_row("RAM", host, host.process + host.output + host.shared, host.available, host.margin))
    headers = ("", "WEIGHTS", "KV CACHE", "COMPUTE", "OTHER", "TOTAL", "FREE", "")
    return table(headers, rows)


def _row(name: str, place: DeviceFit | HostFit, other: int, free: int, margin: int) -> tuple[str, ...]:
    parts = (place.weights, place.kv_cache, place.compute, other)
    sizes = [render_bytes(size) for size in (*parts, place.total, free)]
    return (name, *sizes, bar(parts, free))


def bar(parts: Iterable[int], free: int) -> str:
    """Each part's share of what is free; a `!` where all of it is more."""
    sizes = list(parts)
    total = sum(sizes)
    whole = max(free, total, 1)
    drawn, before, position = "", 0, 0
    for size, sign in zip(sizes, _SIGNS, strict=True):
        before += size
        end = round(before * _BAR_WIDTH / whole)
        drawn += sign * (end - position)
        position = end
    if total > free:
        fits = round(free * _BAR_WIDTH / whole)
        return drawn[:fits] + _OVER * (_BAR_WIDTH - fits)
    return drawn + _FREE * (_BAR_WIDTH - position)


def _variants(asked: Asked) -> str:
    rows = []
    for fit in asked.variants:
        card = fit.card
        configuration = fit.configuration
        rows.append(
            (
                "*" if fit is asked.selected else "",
                fit.name,
                render_bytes(fit.file_bytes),
                verdict_text(fit),
                tokens_text(configuration.context_tokens) if configuration else "-",
                render_bytes(_needed(fit)) if fit.host else "-",
                _or_dash(card.vram_bytes if card else None),
                _tightest(fit),
            )
        )
    headers = ("", "VARIANT", "SIZE", "VERDICT", "CONTEXT", "NEEDS", "CARD VRAM", "")
    return table(headers, rows)


def _needed(fit: Fit) -> int:
    """Bytes on the GPUs, or in RAM where there is none in use."""
    assert fit.host is not None
    return sum(device.total for device in fit.devices) or fit.host.total


def _tightest(fit: Fit) -> str:
    """The bar of the place with the least room."""
    if fit.host is None:
        return fit.reason or ""
    places = [(device.total / max(1, device.free), device) for device in fit.devices]
    if places:
        device = max(places, key=lambda item: item[0])[1]
        return bar((device.weights, device.kv_cache, device.compute, device.overhead), device.free)
    host = fit.host
    other = host.process + host.output + host.shared
    return bar((host.weights, host.kv_cache, host.compute, other), host.available)


def _machine(host: Host) -> str:
    ram = f"{render_bytes(host.ram.available_bytes)} of {render_bytes(host.ram.total_bytes)} RAM free"
    gpus = [
        f"{gpu.name} {gpu.description}".strip()
        + f" {render_bytes(gpu.free_bytes)} of {render_bytes(gpu.total_bytes)} free"
        for gpu in host.gpus
    ]
    name = f"{host.name} (simulated)" if host.simulated else host.name
    return f"{name}: {', '.join([ram, *(gpus or ['no GPU'])])}"


def _or_dash(size: int | None) -> str:
    return "-" if size is None else render_bytes(size)
