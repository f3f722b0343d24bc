"""The rules by which each kind of backend sizes its buffers.

Source: ggml-cuda.cu (`ggml_backend_cuda_buffer_type_*`), fattn.cu and fattn-common.cuh (`…get_alloc_size`),
ggml-metal.cpp, ggml-backend.cpp (CPU: TENSOR_ALIGNMENT). ggml-vulkan takes the device's own
`minStorageBufferOffsetAlignment`; 256 is the most that its specification permits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qwenctl.model.host import Backend
from qwenctl.model.memory.tensor import F16, Node
from qwenctl.model.quantization import TENSOR_TYPES

_ROW_PADDING: Final = 512  # MATRIX_ROW_PADDING of ggml-cuda
_SCRATCH_ALIGNMENT: Final = 128
_VECTOR_ROWS: Final = 2  # up to so many queries flash attention reads quantized K and V as they are


@dataclass(frozen=True, slots=True)
class Rules:
    """How a backend lays out memory. `pads_rows`: quantized rows are padded to 512 numbers, and flash
    attention over a cache that is not 16-bit needs a 16-bit copy. `pipelines`: it computes asynchronously
    with events, so that several of them work as a pipeline.
    """

    alignment: int
    pads_rows: bool = False
    pipelines: bool = False

    def weight_bytes(self, type: int, row: int, size_bytes: int) -> int:
        """Bytes of a weight or cache tensor with rows of `row` numbers, aligned."""
        return self.aligned(size_bytes + self._row_padding(type, row))

    def node_bytes(self, node: Node) -> int:
        """Bytes of a tensor of the graph, not aligned yet."""
        size = node.size_bytes
        if not self.pads_rows:
            return size
        if node.op == "FLASH_ATTN_EXT":
            return self._with_scratch(node)
        return size + self._row_padding(node.type, node.ne[0])

    def aligned(self, size_bytes: int) -> int:
        """The next multiple of the alignment."""
        return -(-size_bytes // self.alignment) * self.alignment

    def _row_padding(self, type: int, row: int) -> int:
        kind = TENSOR_TYPES[type]
        if not self.pads_rows or kind.block_elements == 1 or row % _ROW_PADDING == 0:
            return 0
        return kind.row_bytes(_ROW_PADDING - row % _ROW_PADDING)

    def _with_scratch(self, node: Node) -> int:
        q, k, v = node.sources[:3]
        size = node.size_bytes
        quantized = any(TENSOR_TYPES[x.type].block_elements > 1 for x in (k, v))
        if quantized and q.ne[1] <= _VECTOR_ROWS:
            return size
        for x in (k, v):
            if x.type != F16:
                size = -(-size // _SCRATCH_ALIGNMENT) * _SCRATCH_ALIGNMENT
                size += x.ne[0] * x.ne[1] * x.ne[2] * x.ne[3] * TENSOR_TYPES[F16].block_bytes
        return size


_CUDA: Final = Rules(128, pads_rows=True, pipelines=True)
RULES: Final[Mapping[Backend, Rules]] = {
    "cuda": _CUDA,
    "rocm": _CUDA,
    "musa": _CUDA,
    "vulkan": Rules(256, pipelines=True),
    "metal": Rules(32),
    "sycl": Rules(128, pads_rows=True),
    "cann": Rules(128),
    "opencl": Rules(128),
    "other": Rules(128),
}
CPU_RULES: Final = Rules(32)
"""Source: ggml-impl.h, TENSOR_ALIGNMENT."""
