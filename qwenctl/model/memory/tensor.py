"""Tensors of a computation graph, and the order in which ggml computes them."""

from collections.abc import Sequence
from typing import Final

from qwenctl.model.quantization import TENSOR_TYPES

F32: Final = 0
F16: Final = 1
I32: Final = 26
I64: Final = 27

UNASSIGNED: Final = -1

Four = tuple[int, int, int, int]

VIEW_OPS: Final = frozenset({"VIEW", "RESHAPE", "PERMUTE", "TRANSPOSE"})
"""Operations that compute nothing. Source: ggml-impl.h, `ggml_is_view_op` (NONE is not among nodes)."""


class Node:
    """A tensor of ggml: its type, its extents `ne`, its strides `nb` in bytes, where it comes from.

    `viewed` is the tensor whose memory a view shows, never itself a view. `home` is the backend in whose
    buffer it lies before the graph is allocated (weights, cache); None for what the graph allocates.
    `is_repacked`: a weight in an order of the CPU's own, which no GPU can take over.
    The remaining fields are notes of scheduler and allocator.

    Source: ggml.h, `struct ggml_tensor`.
    """

    __slots__ = (
        "address",
        "allocated",
        "backend",
        "bound",
        "buffer",
        "children",
        "copies",
        "home",
        "is_input",
        "is_output",
        "is_repacked",
        "is_weight",
        "nb",
        "ne",
        "op",
        "size_bytes",
        "sources",
        "type",
        "viewed",
        "views",
        "visited",
    )

    def __init__(
        self,
        type: int,
        ne: Sequence[int],
        op: str = "NONE",
        sources: Sequence["Node"] = (),
        *,
        nb: Four | None = None,
        viewed: "Node | None" = None,
        home: int | None = None,
        is_weight: bool = False,
        is_input: bool = False,
    ) -> None:
        self.type = type
        a, b, c, d = (*ne, 1, 1, 1, 1)[:4]
        self.ne: Four = (a, b, c, d)
        kind = TENSOR_TYPES[type]
        row = a // kind.block_elements * kind.block_bytes
        contiguous = (kind.block_bytes, row, row * b, row * b * c)
        self.nb: Four = nb or contiguous
        self.size_bytes = (
            row * b * c * d if self.nb == contiguous else _spanned(kind.block_elements, row, self)
        )
        self.op = op
        self.sources = list(sources)
        self.viewed: Node | None = (viewed.viewed or viewed) if viewed is not None else None
        self.home = home
        self.is_weight = is_weight
        self.is_input = is_input
        self.is_output = self.is_repacked = False
        self.visited = False
        self.backend = self.bound = self.buffer = UNASSIGNED
        self.copies: dict[int, list[Node]] | None = None
        self.children = self.views = 0
        self.address = (0, 0)
        self.allocated = False

    @property
    def place(self) -> int | None:
        """The backend in whose buffer the memory lies already; None when it is still to be allocated."""
        return self.home if self.viewed is None else self.viewed.home

    def like(self, type: int | None = None) -> "Node":
        """A tensor of the same layout without contents. Source: ggml.c, `ggml_dup_tensor_layout`."""
        return Node(self.type if type is None else type, self.ne, nb=self.nb)

    def same_layout(self, other: "Node") -> bool:
        """Source: ggml-impl.h, `ggml_are_same_layout`."""
        return self.type == other.type and self.ne == other.ne and self.nb == other.nb


def _spanned(block_elements: int, row: int, node: Node) -> int:
    """Bytes from the first to the last element. Source: ggml.c, `ggml_nbytes`."""
    first = TENSOR_TYPES[node.type].block_bytes if block_elements == 1 else row
    start = 0 if block_elements == 1 else 1
    return first + sum((node.ne[i] - 1) * node.nb[i] for i in range(start, 4))


class Graph:
    """Nodes in the order of their computation, leafs in the order of their discovery."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.leafs: list[Node] = []

    def expand(self, node: Node) -> None:
        """Put `node` and everything that it needs into the graph, sources from first to last.

        Source: ggml.c, `ggml_build_forward_expand`, `ggml_visit_parents_graph`.
        """
        if node.visited:
            return
        node.visited = True
        stack = [(node, iter(node.sources))]
        while stack:
            current, sources = stack[-1]
            pending = next((source for source in sources if not source.visited), None)
            if pending is not None:
                pending.visited = True
                stack.append((pending, iter(pending.sources)))
                continue
            stack.pop()
            (self.leafs if current.op == "NONE" else self.nodes).append(current)
