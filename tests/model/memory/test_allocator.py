"""ggml's allocator on graphs whose sizes can be worked out on paper. All sizes are bytes."""

from qwenctl.model.memory.allocator import Buffer, allocate
from qwenctl.model.memory.backends import CPU_RULES, RULES, Rules
from qwenctl.model.memory.scheduler import Schedule
from qwenctl.model.memory.tensor import F32, Node

_CHUNKED = Rules(1, chunk_bytes=100)


def allocated(*nodes: Node, leafs: tuple[Node, ...] = ()) -> int:
    """The buffer of one backend for these nodes in this order."""
    order = [(node, 0) for node in nodes]
    return allocate(Schedule(order, [(leaf, 0) for leaf in leafs], 1), [CPU_RULES])[0]


def numbers(count: int, op: str, *sources: Node) -> Node:
    """A tensor of `count` 32-bit numbers."""
    return Node(F32, (count,), op, sources)


def test_memory_is_used_again_when_its_last_reader_is_done() -> None:
    """x → a → b → c of 1024 each, none in place: three never live at once."""
    x = Node(F32, (256,), is_input=True)
    a = numbers(256, "MUL_MAT", x)
    b = numbers(256, "MUL_MAT", a)
    c = numbers(256, "MUL_MAT", b)
    assert allocated(a, b, c, leafs=(x,)) == 2 * 1024


def test_what_is_read_later_is_kept() -> None:
    """The same, but c reads x too."""
    x = Node(F32, (256,), is_input=True)
    a = numbers(256, "MUL_MAT", x)
    b = numbers(256, "MUL_MAT", a)
    c = numbers(256, "MUL_MAT", b, x)
    assert allocated(a, b, c, leafs=(x,)) == 3 * 1024


def test_an_output_is_never_overwritten() -> None:
    """a keeps its memory although nobody reads it again."""
    x = Node(F32, (256,), is_input=True)
    a = numbers(256, "MUL_MAT", x)
    a.is_output = True
    b = numbers(256, "MUL_MAT", a)
    c = numbers(256, "SCALE", b)
    assert allocated(a, b, c, leafs=(x,)) == 2 * 1024  # b takes x's place, c is b in place
    fresh = Node(F32, (256,), is_input=True)
    first = numbers(256, "MUL_MAT", fresh)
    first.is_output = True
    second = numbers(256, "SCALE", first)
    assert allocated(first, second, leafs=(fresh,)) == 2 * 1024


def test_an_operation_may_overwrite_its_source() -> None:
    """Where it is the only reader, and the layout is the same."""
    x = Node(F32, (256,), is_input=True)
    assert allocated(numbers(256, "SCALE", x), leafs=(x,)) == 1024
    y = Node(F32, (256,), is_input=True)
    assert allocated(numbers(256, "MUL_MAT", y), leafs=(y,)) == 2048
    z = Node(F32, (256,), is_input=True)
    assert allocated(Node(F32, (128, 2), "SCALE", (z,)), leafs=(z,)) == 2048


def test_a_source_with_another_reader_is_not_overwritten() -> None:
    """b reads x after a did."""
    x = Node(F32, (256,), is_input=True)
    a = numbers(256, "SCALE", x)
    b = numbers(256, "ADD", a, x)
    assert allocated(a, b, leafs=(x,)) == 2 * 1024


def test_a_view_keeps_what_it_shows() -> None:
    """The memory of `a` is free only when the view of it was read."""
    x = Node(F32, (256,), is_input=True)
    a = numbers(256, "MUL_MAT", x)
    view = Node(F32, (16, 16), "RESHAPE", (a,), viewed=a)
    b = numbers(256, "MUL_MAT", x)
    c = numbers(256, "MUL_MAT", b, view)
    assert allocated(a, view, b, c, leafs=(x,)) == 3 * 1024  # c takes x's place


def test_weights_and_cache_have_memory_already() -> None:
    """What has a home takes none of the compute buffer."""
    weight = Node(F32, (1 << 20,), home=0, is_weight=True)
    assert allocated(numbers(256, "MUL_MAT", weight)) == 1024


def test_sizes_are_aligned() -> None:
    """One number takes 32 bytes on the CPU, 128 on CUDA, 256 on Vulkan."""
    sizes = []
    for rules in (CPU_RULES, RULES["cuda"], RULES["vulkan"]):
        node = numbers(1, "MUL_MAT", Node(F32, (1,), home=0))
        sizes.append(allocate(Schedule([(node, 0)], [], 1), [rules])[0])
    assert sizes == [32, 128, 256]


def test_the_smallest_hole_that_fits_is_taken() -> None:
    """Holes of 300 and 100: 90 goes into the second."""
    buffer = Buffer()
    taken = [buffer.take(size) for size in (300, 10, 100, 10)]
    buffer.give(taken[0], 300)
    buffer.give(taken[2], 100)
    assert buffer.take(90) == (0, 310)
    assert buffer.size_bytes == 420


def test_of_equal_holes_the_last_is_taken() -> None:
    """As ggml's comparison has it, `<=`."""
    buffer = Buffer()
    taken = [buffer.take(size) for size in (100, 10, 100, 10)]
    buffer.give(taken[0], 100)
    buffer.give(taken[2], 100)
    assert buffer.take(100) == (0, 110)


def test_neighbouring_holes_become_one() -> None:
    """Freed before, behind and between; then a hole of all three."""
    for order in ((0, 1, 2), (2, 1, 0), (0, 2, 1)):
        buffer = Buffer()
        taken = [buffer.take(100) for _ in range(4)]
        for index in order:
            buffer.give(taken[index], 100)
        assert buffer.take(300) == (0, 0), order


def test_a_hole_at_the_end_grows_the_buffer_by_what_is_missing() -> None:
    """50 are free at the end: 80 more need 30."""
    buffer = Buffer()
    buffer.take(100)
    buffer.give(buffer.take(50), 50)
    assert buffer.take(80) == (0, 100)
    assert buffer.size_bytes == 180


def test_a_backend_with_a_largest_buffer_gets_several() -> None:
    """A new chunk where none has room; one tensor may be larger than a chunk."""
    buffer = Buffer(_CHUNKED.chunk_bytes)
    assert buffer.take(60) == (0, 0)
    assert buffer.take(60) == (1, 0)
    assert buffer.take(30) == (0, 60)
    assert buffer.take(250) == (2, 0)
    assert buffer.size_bytes == 90 + 60 + 250


def test_the_chunk_that_grows_the_least_is_taken() -> None:
    """Both have room for 20; the second has 15 of them already."""
    buffer = Buffer(_CHUNKED.chunk_bytes)
    buffer.take(60)
    buffer.take(50)
    buffer.give(buffer.take(45), 15)
    assert [buffer.take(size) for size in (5,)] == [(1, 50)]


def test_the_sixteenth_chunk_has_no_end() -> None:
    """GGML_VBUFFER_MAX_CHUNKS: what does not fit before goes there."""
    buffer = Buffer(_CHUNKED.chunk_bytes)
    chunks = [buffer.take(80)[0] for _ in range(20)]
    assert chunks == [*range(16), 15, 15, 15, 15]
