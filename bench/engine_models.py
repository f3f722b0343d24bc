"""The models of the engine benchmark: the guide model, and half a billion weights drawn at random."""

from collections.abc import Mapping
from pathlib import Path

import numpy

from qwenctl.flows.catalog import Catalog
from qwenctl.flows.find import Found
from qwenctl.flows.views import open_artifact
from qwenctl.model.gguf import read_header
from qwenctl.model.quantization import TENSOR_TYPES
from tests.shape_models import SHAPES, write_shape_model

_SCALE = numpy.float16(2e-4).tobytes()
# Where the 16-bit scales of a block are. Source: ggml-common.h, `block_q4_K` and its neighbours.
_SCALES: Mapping[str, tuple[int, ...]] = {
    "Q4_0": (0,),
    "Q5_0": (0,),
    "Q8_0": (0,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
}
_BLOCKS_AT_ONCE = 1 << 16


def write_random_half_billion(path: Path) -> Path:
    """Qwen2.5 0.5B's shape as Q4_K_M, its weights random but small, so that all stays finite; `path`."""
    write_shape_model(path, SHAPES["qwen2.5-0.5b"], "Q4_K_M", vocabulary="dummy")
    chance = numpy.random.default_rng(7)
    with path.open("r+b") as file:
        header = read_header(file)
        for tensor in header.tensors:
            kind = TENSOR_TYPES[tensor.type]
            file.seek(header.size_bytes + tensor.offset)
            if kind.name == "F32":
                values = numpy.ones(tensor.elements, numpy.float32)
                if not tensor.name.endswith("norm.weight"):
                    values *= numpy.float32(0.01)
                file.write(values.tobytes())
                continue
            blocks = tensor.elements // kind.block_elements
            for start in range(0, blocks, _BLOCKS_AT_ONCE):
                count = min(_BLOCKS_AT_ONCE, blocks - start)
                file.write(_random_blocks(chance, count, kind.name, kind.block_bytes))
    return path


def guide_weights() -> Path:
    """The weights of the guide model in the built-in registry."""
    store = Catalog.open().store
    reference, root = next(pair for pair in store.tags() if pair[0].tag == "latest")
    return open_artifact(Found(reference, root), store).weights_path


def _random_blocks(chance: numpy.random.Generator, count: int, kind: str, size_bytes: int) -> bytes:
    blocks = chance.integers(0, 256, (count, size_bytes), numpy.uint8)
    for at in _SCALES[kind]:
        blocks[:, at : at + 2] = numpy.frombuffer(_SCALE, numpy.uint8)
    return blocks.tobytes()
