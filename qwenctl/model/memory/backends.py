"""The rules by which each kind of backend sizes its buffers, and what it computes.

Source: ggml-cuda.cu (`ggml_backend_cuda_buffer_type_*`), fattn.cu and fattn-common.cuh (`…get_alloc_size`),
ggml-metal.cpp and ggml-metal-ops.cpp (`…_extra_*`), ggml-sycl.cpp, ggml-cann.cpp, ggml-backend.cpp (CPU:
TENSOR_ALIGNMENT), llama.cpp 0c1e5709. ggml-vulkan takes the device's own `minStorageBufferOffsetAlignment`;
256 is the most that its specification permits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from qwenctl.model.host import Backend
from qwenctl.model.memory.tensor import F16, Node
from qwenctl.model.quantization import TENSOR_TYPES

OFFLOAD_TOKENS: Final = 32
"""From this batch size on a GPU computes with weights that lie on the host.
Source: ggml-cuda.cu, `op_offload_min_batch_size`."""

_GIB: Final = 1024 * 1024 * 1024
_ENDLESS: Final = 1 << 62
_ROW_PADDING: Final = 512  # MATRIX_ROW_PADDING of ggml-cuda


@dataclass(frozen=True, slots=True)
class Rules:
    """How a backend lays out memory.

    `chunk_bytes` is the largest buffer; more is taken in several. `pads_rows`: quantized rows are padded to
    512 numbers. `pipelines`: it computes asynchronously with events, so that several of them work as
    a pipeline. `scratch` are the bytes behind the result of flash attention, given the result's own.
    `attends` tells whether there is a kernel of flash attention for heads of this length. `products_only`:
    of the operations on the host's weights, it takes over multiplications alone. `pins_host`: it has a kind
    of host memory that weights are kept in as they are; without one the CPU repacks them.
    """

    alignment: int
    chunk_bytes: int = _ENDLESS
    pads_rows: bool = False
    pipelines: bool = False
    scratch: Callable[[Node], int] | None = None
    attends: Callable[[int], bool] | None = None
    products_only: bool = False
    pins_host: bool = True

    def weight_bytes(self, type: int, row: int, size_bytes: int) -> int:
        """Bytes of a weight or cache tensor with rows of `row` numbers, aligned."""
        return self.aligned(size_bytes + self._row_padding(type, row))

    def node_bytes(self, node: Node) -> int:
        """Bytes of a tensor of the graph, aligned."""
        size = node.size_bytes
        if node.op == "FLASH_ATTN_EXT" and self.scratch is not None:
            size += self.scratch(node)
        elif self.pads_rows:
            size += self._row_padding(node.type, node.ne[0])
        return -(-size // self.alignment) * self.alignment

    def aligned(self, size_bytes: int) -> int:
        """The next multiple of the alignment."""
        return -(-size_bytes // self.alignment) * self.alignment

    def has_attention(self, length: int) -> bool:
        """Whether flash attention has a kernel for heads of this length; without one the CPU computes it."""
        return self.attends is None or self.attends(length)

    def takes_over(self, node: Node) -> bool:
        """Whether an operation on a weight of the host is computed here, with a copy of the weight."""
        if self.products_only and node.op not in ("MUL_MAT", "MUL_MAT_ID"):
            return False
        return _batch(node) >= OFFLOAD_TOKENS

    def _row_padding(self, type: int, row: int) -> int:
        kind = TENSOR_TYPES[type]
        if not self.pads_rows or kind.block_elements == 1 or row % _ROW_PADDING == 0:
            return 0
        return kind.row_bytes(_ROW_PADDING - row % _ROW_PADDING)


def _batch(node: Node) -> int:
    """Source: ggml-cuda.cu, `get_op_batch_size`."""
    if node.op == "GET_ROWS":
        return 0
    if node.op == "MUL_MAT":
        return node.ne[1]
    if node.op in ("MUL_MAT_ID", "ROPE"):
        return node.ne[2]
    return node.ne[1] * node.ne[2] * node.ne[3]


_CUDA_HEADS: Final = frozenset({40, 64, 72, 80, 96, 112, 128, 256})
_CUDA_ALIGNMENT: Final = 128
_READ_IN_PLACE: Final = frozenset({2, 8})  # Q4_0 and Q8_0: GGML_CUDA_FA_QUANTS compiles no others by default
_VECTOR_ROWS: Final = 2  # up to so many queries they are read as they are


def _cuda_attends(length: int) -> bool:
    """Source: fattn.cu, `ggml_cuda_get_best_fattn_kernel`, of the lengths that our families have."""
    return length in _CUDA_HEADS


def _cuda_scratch(node: Node) -> int:
    """16-bit copies of K and V, where they are stored otherwise."""
    q, k, v = node.sources[:3]
    if k.type in _READ_IN_PLACE and q.ne[1] <= _VECTOR_ROWS and q.ne[0] % 64 == 0:
        return 0
    size = node.size_bytes
    for x in (k, v):
        if x.type != F16:
            size = -(-size // _CUDA_ALIGNMENT) * _CUDA_ALIGNMENT + _half_bytes(x)
    return size - node.size_bytes


_METAL_COLUMNS: Final = 64  # OP_FLASH_ATTN_EXT_NCPSG
_METAL_ROWS: Final = 8  # OP_FLASH_ATTN_EXT_NQPSG
_METAL_VECTOR_COLUMNS: Final = 32  # OP_FLASH_ATTN_EXT_VEC_NCPSG
_METAL_GROUPS: Final = 32


def _metal_scratch(node: Node) -> int:
    """The end of the cache, a map of the mask's blocks, parts of the result, 16-bit copies of K and V."""
    q, k, v, mask = node.sources
    copied = q.ne[1] >= 32 and TENSOR_TYPES[k.type].block_elements > 1
    ends = sum((2 * x.ne[0] if copied else x.nb[1]) * x.ne[2] * x.ne[3] for x in (k, v))
    ends += 2 * mask.ne[1] * mask.ne[2] * mask.ne[3]
    vector = q.ne[1] < 20 and q.ne[0] % 32 == 0
    rows, columns = (1, _METAL_VECTOR_COLUMNS) if vector else (_METAL_ROWS, _METAL_COLUMNS)
    blocks = -(-mask.ne[0] // columns) * -(-q.ne[1] // rows) * mask.ne[2] * mask.ne[3]
    parts = 4 * min(q.ne[1], 32) * q.ne[2] * q.ne[3] * _METAL_GROUPS * (v.ne[0] + 2)
    copies = sum(-(-_half_bytes(x) // 16) * 16 for x in (k, v))
    return _METAL_COLUMNS * ends + -(-blocks // 32) * 32 + parts + copies


def _half_bytes(x: Node) -> int:
    return 2 * x.ne[0] * x.ne[1] * x.ne[2] * x.ne[3]


_CUDA: Final = Rules(
    _CUDA_ALIGNMENT, pads_rows=True, pipelines=True, scratch=_cuda_scratch, attends=_cuda_attends
)
RULES: Final[Mapping[Backend, Rules]] = {
    "cuda": _CUDA,
    "rocm": _CUDA,
    "musa": _CUDA,
    "vulkan": Rules(256, chunk_bytes=_GIB, pipelines=True),
    "metal": Rules(32, pipelines=True, scratch=_metal_scratch, products_only=True, pins_host=False),
    "sycl": Rules(128, pads_rows=True, scratch=_cuda_scratch),
    "cann": Rules(128, pads_rows=True),
    "opencl": Rules(128),
    "other": Rules(128),
}
CPU_RULES: Final = Rules(32)
"""Source: ggml-impl.h, TENSOR_ALIGNMENT."""
