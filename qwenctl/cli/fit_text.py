"""What `qwenctl fit` prints for people: bars for weights, KV cache, compute and free, and one sentence."""

from collections.abc import Iterable, Sequence
from typing import Final

from qwenctl.cli.output import counted, table
from qwenctl.flows.fit_card import FROM_CARD
from qwenctl.flows.fit_model import BY_CARD, Asked, best_variant
from qwenctl.flows.fit_report import DeviceFit, Fit, HostFit
from qwenctl.model.host import Host
from qwenctl.model.memory.words import tokens_text
from qwenctl.units import render_bytes, render_count

_SHORT_BAR: Final = 18  # columns, in the table of variants
_SIGNS: Final = "█▓▒░"  # weights, KV cache, compute, what driver or process take
_WIDTH: Final = 100  # columns; a longer line is several
_FREE: Final = "·"
_OVER: Final = "!"
_LEGEND: Final = "█ weights  ▓ KV cache  ▒ compute  ░ driver, process  · free  ! too much"


def render(asked: Asked, host: Host) -> str:
    """The verdict in full, or the table of variants and the sentence on the one that was asked for."""
    if len(asked.variants) == 1 and not asked.problems:
        return _one(asked.selected, host)
    unknown = [(fit.name, fit.advice) for fit in asked.variants if fit.verdict == "unknown"]
    notes = [*_reasons((*unknown, *asked.problems)), *_by_card(asked.variants)]
    selected = f"{asked.selected.name}: {_conclusion(asked.selected)}"
    if selected in notes:
        notes.remove(selected)
    best = best_variant(asked.variants)
    largest = f"the largest that fits: {best.name}" if best else "none fits"
    parts = [machine_text(host), _variants(asked), _LEGEND, "\n".join(notes), f"{selected}\n{largest}"]
    return "\n\n".join(part for part in parts if part)


def _reasons(problems: Iterable[tuple[str, str]]) -> list[str]:
    """Names and what is wrong with them: each reason once, after all that it holds for."""
    names: dict[str, list[str]] = {}
    for name, reason in problems:
        names.setdefault(reason, []).append(name)
    return [f"{', '.join(those)}: {reason}" for reason, those in names.items()]


def _by_card(variants: Sequence[Fit]) -> list[str]:
    """What was judged without its file, and why; once for all of them."""
    drawn = [fit for fit in variants if fit.header.method == FROM_CARD]
    reasons = dict.fromkeys(note for fit in drawn for note in fit.notes if note.startswith(BY_CARD))
    return [f"{len(drawn)} of {counted(len(variants), 'variant')} {reason}" for reason in reasons]


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
    card = (("VRAM", fit.card.vram_bytes), ("size", fit.card.size_bytes)) if fit.card else ()
    if figures := [f"{render_bytes(size)} {what}" for what, size in card if size]:
        lines.append(f"its card says {', '.join(figures)}")
    parts = ["\n".join(lines), machine_text(host)]
    if fit.configuration is not None and fit.host is not None:
        parts += [_setting(fit), _places(fit, fit.host), _LEGEND]
    return "\n\n".join([*parts, *(f"note: {note}" for note in fit.notes), _conclusion(fit)])


def _conclusion(fit: Fit) -> str:
    """The verdict and its sentence, which says some verdicts itself."""
    says_it = fit.verdict in ("partial", "cpu", "unknown")
    return fit.advice if says_it else f"{verdict_text(fit)}: {fit.advice}"


def _longest(fit: Fit) -> str:
    return f"; {fit.context_max} fit here" if fit.context_max else ""


def _setting(fit: Fit) -> str:
    configuration = fit.configuration
    assert configuration is not None
    parts = (
        f"{tokens_text(configuration.context_tokens)} context",
        f"{configuration.slots} request{'s' if configuration.slots > 1 else ''} at a time",
        f"KV {configuration.kv_type}",
        "" if fit.flash_attention else "no flash attention",
        f"{fit.gpu_layers}/{fit.layers} layers on GPU" if fit.gpu_layers else "on the CPU",
        f"{fit.method}, {'exact' if fit.exact else '±3 %'}",
    )
    return " · ".join(part for part in parts if part)


def _places(fit: Fit, host: HostFit) -> str:
    rows = [_row(device.name, device, device.overhead, device.free, device.margin) for device in fit.devices]
    rows.append(_row("RAM", host, host.process + host.output + host.shared, host.available, host.margin))
    headers = ("", "WEIGHTS", "KV CACHE", "COMPUTE", "OTHER", "TOTAL", "FREE", "")
    return table(headers, rows)


def _row(name: str, place: DeviceFit | HostFit, other: int, free: int, margin: int) -> tuple[str, ...]:
    parts = (place.weights, place.kv_cache, place.compute, other)
    sizes = [render_bytes(size) for size in (*parts, place.total, free)]
    return (name, *sizes, bar(parts, free))


def bar(parts: Iterable[int], free: int, width: int = 24) -> str:
    """Each part's share of what is free; a `!` where all of it is more. `width` is in columns."""
    sizes = list(parts)
    total = sum(sizes)
    whole = max(free, total, 1)
    drawn, before, position = "", 0, 0
    for size, sign in zip(sizes, _SIGNS, strict=True):
        before += size
        end = round(before * width / whole)
        drawn += sign * (end - position)
        position = end
    if total > free:
        fits = round(free * width / whole)
        return drawn[:fits] + _OVER * (width - fits)
    return drawn + _FREE * (width - position)


def _variants(asked: Asked) -> str:
    with_card = any(fit.card and fit.card.vram_bytes for fit in asked.variants)
    rows = [
        (
            "*" if fit is asked.selected else "",
            fit.name,
            render_bytes(fit.file_bytes),
            _short_verdict(fit),
            _contexts(fit),
            render_bytes(_needed(fit)) if fit.host else "-",
            *([_or_dash(fit.card.vram_bytes if fit.card else None)] if with_card else []),
            _tightest(fit),
        )
        for fit in asked.variants
    ]
    card = ("CARD VRAM",) if with_card else ()
    return table(("", "VARIANT", "SIZE", "VERDICT", "CONTEXT", "NEEDS", *card, ""), rows)


def _short_verdict(fit: Fit) -> str:
    return f"{fit.gpu_layers}/{fit.layers} on GPU" if fit.verdict == "partial" else verdict_text(fit)


def _contexts(fit: Fit) -> str:
    """Requests side by side, and the context of each."""
    configuration = fit.configuration
    return f"{configuration.slots} x {tokens_text(configuration.context_tokens)}" if configuration else "-"


def _needed(fit: Fit) -> int:
    """Bytes on the GPUs, or in RAM where there is none in use."""
    assert fit.host is not None
    return sum(device.total for device in fit.devices) or fit.host.total


def _tightest(fit: Fit) -> str:
    """The bar of the place with the least room: of the GPUs in use, else of the RAM."""
    if fit.host is None:
        return ""
    if not fit.devices:
        host = fit.host
        other = host.process + host.output + host.shared
        return bar((host.weights, host.kv_cache, host.compute, other), host.available, _SHORT_BAR)
    device = max(fit.devices, key=lambda item: item.total / max(1, item.free))
    parts = (device.weights, device.kv_cache, device.compute, device.overhead)
    return bar(parts, device.free, _SHORT_BAR)


def machine_text(host: Host) -> str:
    """The machine in a line: what is free of its RAM and its GPUs; in several when it would be long."""
    ram = f"{render_bytes(host.ram.available_bytes)} of {render_bytes(host.ram.total_bytes)} RAM free"
    gpus = [
        f"{gpu.name} {gpu.description}".strip()
        + f" {render_bytes(gpu.free_bytes)} of {render_bytes(gpu.total_bytes)} free"
        for gpu in host.gpus
    ]
    name = f"{host.name} (simulated)" if host.simulated else host.name
    line = f"{name}: {', '.join([ram, *(gpus or ['no GPU'])])}"
    return line if len(line) <= _WIDTH else "\n  ".join([f"{name}: {ram}", *gpus])


def _or_dash(size: int | None) -> str:
    return "-" if size is None else render_bytes(size)
