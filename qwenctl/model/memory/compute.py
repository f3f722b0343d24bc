"""The compute buffers: what the graphs take that llama.cpp makes room for when a context opens.

Source: llama.cpp src/llama-context.cpp, `sched_reserve`.
"""

from collections.abc import Sequence
from typing import Final

from qwenctl.model.memory.allocator import allocate
from qwenctl.model.memory.architectures import build_graph
from qwenctl.model.memory.backends import Rules
from qwenctl.model.memory.graph import Setting
from qwenctl.model.memory.hyperparameters import Hyperparameters
from qwenctl.model.memory.scheduler import schedule

_NODES: Final = 32  # more than a layer has, each counted as wide as the widest
_NUMBER_BYTES: Final = 4


def compute_bytes(model: Hyperparameters, setting: Setting, rules: Sequence[Rules], copies: int) -> list[int]:
    """Bytes of the compute buffer of each backend, in the order of `rules`.

    llama.cpp makes room for a prompt's graph, and then for one that generates a token for each sequence; the
    larger counts. A measurement without allocation sees the first alone. The second is the smaller one by far
    unless batches are tiny or it runs elsewhere, so it is built only where it might matter.
    """
    sizes = setting.sizes
    prompt = _bytes(model, setting, rules, copies, sizes.tokens, sizes.outputs)
    working = set(setting.devices)
    if not setting.pinned or min(prompt[backend] for backend in working) > _at_most(model, setting):
        return prompt
    generation = _bytes(model, setting, rules, copies, sizes.sequences, sizes.sequences)
    return [max(pair) for pair in zip(prompt, generation, strict=True)]


def _bytes(
    model: Hyperparameters, setting: Setting, rules: Sequence[Rules], copies: int, tokens: int, outputs: int
) -> list[int]:
    return allocate(schedule(build_graph(model, setting, tokens, outputs), rules, copies), rules)


def _at_most(model: Hyperparameters, setting: Setting) -> int:
    """More than generation takes on a backend: a layer's nodes and the logits, nothing reused."""
    sizes = setting.sizes
    tensors = (tensor for name, tensor in model.tensors.items() if name.startswith("blk.0."))
    rows = max(tensor.dimensions[1] for tensor in tensors if len(tensor.dimensions) > 1)
    widest = max(rows, model.width) * max(1, model.experts_used) * sizes.sequences
    scores = 0 if setting.flash_attention else 3 * model.heads * sizes.sequences
    copied = 0 if setting.kv_type == "f16" else model.key_row + model.value_row
    by_cell = 2 * sizes.sequences + scores + copied
    numbers = _NODES * widest + 3 * model.vocabulary * sizes.sequences + sizes.cells * sizes.streams * by_cell
    return _NUMBER_BYTES * numbers
