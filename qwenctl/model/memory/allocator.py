"""ggml's graph allocator: how large the buffer of each backend becomes.

Source: llama.cpp ggml/src/ggml-alloc.c: `ggml_dyn_tallocr_*` and `ggml_gallocr_alloc_graph_impl`, with one
chunk a buffer (the backends that we know take buffers of any size).
"""

from collections.abc import Sequence
from typing import Final

from qwenctl.model.memory.backends import Rules
from qwenctl.model.memory.scheduler import Schedule
from qwenctl.model.memory.tensor import Node

_IN_PLACE: Final = frozenset({"ADD", "CLAMP", "DIV", "MUL", "RMS_NORM", "ROPE", "SCALE", "SOFT_MAX", "UNARY"})
"""Operations that may overwrite a source. Source: `ggml_op_can_inplace`, of the operations that we have."""
_ENDLESS: Final = 1 << 62


def allocate(schedule: Schedule, rules: Sequence[Rules]) -> list[int]:
    """The bytes of the compute buffer of each backend, in the order of `rules`."""
    allocator = _Allocator(rules)
    for leaf, backend in schedule.leafs:
        allocator.allocate(leaf, backend)
    for node, backend in schedule.nodes:
        if node.viewed is not None and node.op != "NONE":
            node.viewed.views += 1
        if node.is_input:
            allocator.allocate(node, backend)
        for source in node.sources:
            source.children += 1
            if source.is_input:
                allocator.allocate(source, backend)
    for node, backend in schedule.nodes:
        for source in node.sources:
            allocator.allocate(source, backend)
        allocator.allocate(node, backend)
        for source in node.sources:
            allocator.release(source)
    return [block.peak for block in allocator.blocks]


class _Allocator:
    def __init__(self, rules: Sequence[Rules]) -> None:
        self.rules = rules
        self.blocks = [_Blocks(rule) for rule in rules]

    def allocate(self, node: Node, backend: int) -> None:
        """Memory for `node`, unless it has some; a source's, where it may be overwritten."""
        if node.allocated or node.viewed is not None or node.home is not None:
            return
        node.allocated = True
        if node.op in _IN_PLACE and self._take_over(node, backend):
            return
        node.buffer = backend
        node.offset = self.blocks[backend].take(self.rules[backend].node_bytes(node))

    def release(self, source: Node) -> None:
        """One use of `source` is over; the last one frees its memory."""
        source.children -= 1
        if source.children or source.views:
            return
        if source.viewed is None:
            self._free(source)
            return
        source.viewed.views -= 1
        if not source.viewed.views and not source.viewed.children:
            self._free(source.viewed)

    def _take_over(self, node: Node, backend: int) -> bool:
        for source in node.sources:
            if not source.allocated or source.is_output or source.children != 1 or source.views:
                continue
            if not node.same_layout(source):
                continue
            node.buffer, node.offset = source.buffer, source.offset
            source.allocated = False
            before = self.rules[source.buffer].node_bytes(source)
            self.blocks[source.buffer].shrink(node.offset, before, self.rules[backend].node_bytes(node))
            return True
        return False

    def _free(self, node: Node) -> None:
        if node.allocated and not node.is_output:
            self.blocks[node.buffer].give(node.offset, self.rules[node.buffer].node_bytes(node))
            node.allocated = False


class _Blocks:
    """The free blocks of one buffer, by address; the last one has no end."""

    def __init__(self, rules: Rules) -> None:
        self._aligned = rules.aligned
        self._free: list[list[int]] = [[0, _ENDLESS]]
        self.peak = 0

    def take(self, size: int) -> int:
        """The offset of `size` bytes: in the last of the smallest blocks that fit, else at the end."""
        size = self._aligned(size)
        best, smallest = len(self._free) - 1, _ENDLESS + 1
        for index in range(len(self._free) - 1):
            if size <= self._free[index][1] <= smallest:
                best, smallest = index, self._free[index][1]
        block = self._free[best]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            del self._free[best]
        self.peak = max(self.peak, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Frees bytes, merged with a free block before or behind them."""
        size = self._aligned(size)
        free = self._free
        for index, block in enumerate(free):
            if block[0] + block[1] == offset:
                block[1] += size
                if index + 1 < len(free) and block[0] + block[1] == free[index + 1][0]:
                    block[1] += free.pop(index + 1)[1]
                return
            if offset + size == block[0]:
                block[0] = offset
                block[1] += size
                if index and free[index - 1][0] + free[index - 1][1] == offset:
                    free[index - 1][1] += free.pop(index)[1]
                return
        position = sum(1 for block in free if block[0] < offset)
        free.insert(position, [offset, size])

    def shrink(self, offset: int, before: int, after: int) -> None:
        """Frees what a smaller successor leaves over."""
        before, after = self._aligned(before), self._aligned(after)
        if before > after:
            self.give(offset + after, before - after)
