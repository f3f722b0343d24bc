"""A plan in words: what a load takes, and by how much it does not fit."""

from collections.abc import Sequence

from qwenctl.model.memory.plan import Plan, Shortage
from qwenctl.model.memory.remedies import Remedy
from qwenctl.units import render_bytes

_OUTCOMES = {
    "gpu": "puts all layers on the GPU",
    "gpus": "puts all layers on the GPUs",
    "partial": "puts some layers on the GPU",
    "cpu": "makes it fit",
    "no": "changes nothing",
}


def load_line(quantization: str | None, plan: Plan) -> str:
    """One line on a load: `Q4_K_M · 29/29 layers on GPU · 32k context · 5.1 of 8.0 GiB`."""
    estimate, on_gpus = plan.estimate, plan.places[:-1]
    parts = [quantization or "unknown quantization"]
    if plan.verdict == "cpu" or not on_gpus:
        parts.append("on the CPU")
    else:
        parts.append(f"{estimate.gpu_layers}/{estimate.layers} layers on {_gpu_words(len(on_gpus))}")
    parts.append(f"{tokens_text(plan.configuration.context_tokens)} context")
    places = on_gpus or plan.places
    needed = sum(place.needed_bytes for place in places)
    capacity = sum(place.capacity_bytes for place in places)
    used, unit = render_bytes(needed).split(" ")
    whole, whole_unit = render_bytes(capacity).split(" ")
    parts.append(f"{used}{'' if unit == whole_unit else ' ' + unit} of {whole} {whole_unit}")
    return " · ".join(parts) + ("" if on_gpus else " RAM")


def shortage_text(name: str, shortage: Shortage) -> str:
    """By how much it does not fit, and where."""
    return f"`{name}` {need_text(shortage)}"


def need_text(shortage: Shortage) -> str:
    """The same without the model's name: `needs 45.8 GiB of RAM, 27.5 GiB can be used`."""
    needed, budget = render_bytes(shortage.needed_bytes), render_bytes(shortage.budget_bytes)
    place = shortage.place if shortage.place == "RAM" else f"memory on {shortage.place}"
    return f"needs {needed} of {place}, {budget} can be used"


def needs_text(plan: Plan) -> str:
    """What a plan takes of each place: `5.10 GiB of 7.60 GiB free on CUDA0 and …`."""
    parts = [
        f"{render_bytes(place.needed_bytes)} of {render_bytes(place.free_bytes)} free "
        f"{'in' if place.name == 'RAM' else 'on'} {place.name}"
        for place in plan.places
    ]
    return " and ".join(parts)


def remedy_text(remedy: Remedy) -> str:
    """A change and what it leads to: "`--kv q8_0` puts all layers on the GPU"."""
    how = {
        "unload": f"`qwenctl stop {remedy.subject}`",
        "kv_type": f"`--kv {remedy.subject}`",
        "context": f"`--context {remedy.subject}`",
    }[remedy.kind]
    return f"{how} {_OUTCOMES[remedy.verdict]}"


def remedies_text(remedies: Sequence[Remedy]) -> str | None:
    """All of them; None when there is none."""
    return "; ".join(map(remedy_text, remedies)) or None


def tokens_text(tokens: int) -> str:
    """`32k` for a multiple of 1024 tokens, else the number."""
    return f"{tokens // 1024}k" if tokens >= 1024 and tokens % 1024 == 0 else str(tokens)


def _gpu_words(count: int) -> str:
    return "GPU" if count == 1 else f"{count} GPUs"
