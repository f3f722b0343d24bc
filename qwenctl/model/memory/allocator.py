"""ggml's graph allocator: how large the buffer of each backend becomes.

Source: llama.cpp ggml/src/ggml-alloc.c: `ggml_dyn_tallocr_*` and `ggml_gallocr_alloc_graph_impl`.
"""

from collections.abc import Sequence
from typing import Final

from qwenctl.model.memory.backends import Rules
from qwenctl.model.memory.scheduler import Schedule
from qwenctl.model.memory.tensor import Node

_IN_PLACE: Final = frozenset({"ADD", "CLAMP", "DIV", "MUL", "RMS_NORM", "ROPE", "SCALE", "SOFT_MAX", "UNARY"})
"""Operations that may overwrite a source. Source: `ggml_op_can_inplace`, of the operations that we have."""
_CHUNKS: Final = 16  # GGML_VBUFFER_MAX_CHUNKS; the last one has no end
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
    return [buffer.size_bytes for buffer in allocator.buffers]


class _Allocator:
    def __init__(self, rules: Sequence[Rules]) -> None:
        self.rules = rules
        self.buffers = [Buffer(rule.chunk_bytes) for rule in rules]

    def allocate(self, node: Node, backend: int) -> None:
        """Memory for `node`, unless it has some; a source's, where it may be overwritten."""
        if node.allocated or node.viewed is not None or node.home is not None:
            return
        node.allocated = True
        if node.op in _IN_PLACE and self._take_over(node):
            return
        node.buffer = backend
        node.address = self.buffers[backend].take(self.rules[backend].node_bytes(node))

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

    def _take_over(self, node: Node) -> bool:
        for source in node.sources:
            if not source.allocated or source.is_output or source.children != 1 or source.views:
                continue
            if not node.same_layout(source):
                continue
            node.buffer, node.address = source.buffer, source.address
            source.allocated = False
            rules, (chunk, offset) = self.rules[source.buffer], source.address
            before, after = rules.node_bytes(source), rules.node_bytes(node)
            if before > after:
                self.buffers[source.buffer].give((chunk, offset + after), before - after)
            return True
        return False

    def _free(self, node: Node) -> None:
        if node.allocated and not node.is_output:
            self.buffers[node.buffer].give(node.address, self.rules[node.buffer].node_bytes(node))
            node.allocated = False


class _Chunk:
    """One buffer of a backend: its free blocks by address, and how far it was ever in use."""

    def __init__(self, size: int) -> None:
        self.free: list[list[int]] = [[0, size]]
        self.peak = 0

    def best_inner(self, size: int) -> int | None:
        """The last of the smallest blocks that hold `size`, but for the block at the end."""
        found, smallest = None, _ENDLESS
        for index in range(len(self.free) - 1):
            if size <= self.free[index][1] <= smallest:
                found, smallest = index, self.free[index][1]
        return found

    def take(self, index: int, size: int) -> int:
        """The offset of `size` bytes at the front of a free block."""
        block = self.free[index]
        offset = block[0]
        block[0] += size
        block[1] -= size
        if not block[1]:
            del self.free[index]
        self.peak = max(self.peak, offset + size)
        return offset

    def give(self, offset: int, size: int) -> None:
        """Frees bytes, merged with a free block before or behind them."""
        free = self.free
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


class Buffer:
    """The compute buffer of a backend, in chunks of at most `chunk_bytes`. Sizes are aligned already."""

    def __init__(self, chunk_bytes: int = _ENDLESS) -> None:
        self._chunk_bytes = chunk_bytes
        self._chunks: list[_Chunk] = []

    @property
    def size_bytes(self) -> int:
        """What the backend allocates."""
        return sum(chunk.peak for chunk in self._chunks)

    def take(self, size: int) -> tuple[int, int]:
        """The chunk and the offset of `size` bytes. Source: `ggml_dyn_tallocr_alloc`."""
        chunk, index = self._find(size)
        return chunk, self._chunks[chunk].take(index, size)

    def give(self, address: tuple[int, int], size: int) -> None:
        """Frees bytes."""
        self._chunks[address[0]].give(address[1], size)

    def _find(self, size: int) -> tuple[int, int]:
        for number in reversed(range(len(self._chunks))):
            index = self._chunks[number].best_inner(size)
            if index is not None:
                return number, index
        return self._at_an_end(size) or self._in_a_new_chunk(size)

    def _at_an_end(self, size: int) -> tuple[int, int] | None:
        """The chunk whose last block holds `size` with the least left over, or that grows the least."""
        found, best = None, -_ENDLESS
        for number, chunk in enumerate(self._chunks):
            if not chunk.free or chunk.free[-1][1] < size:
                continue
            left = chunk.peak - chunk.free[-1][0] - size
            if (best < 0 and left > best) or 0 <= left < best:
                found, best = (number, len(chunk.free) - 1), left
        return found

    def _in_a_new_chunk(self, size: int) -> tuple[int, int]:
        last = len(self._chunks) == _CHUNKS - 1
        self._chunks.append(_Chunk(_ENDLESS if last else max(size, self._chunk_bytes)))
        return len(self._chunks) - 1, 0
