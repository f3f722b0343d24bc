"""Tensors: strides and sizes as ggml has them; the order in which a graph is computed."""

import pytest

from qwenctl.model.memory.tensor import F16, F32, Graph, Node

Q8_0 = 8


@pytest.mark.parametrize(
    ("type", "ne", "nb", "size"),
    [
        (F32, (3,), (4, 12, 12, 12), 12),
        (F32, (3, 5), (4, 12, 60, 60), 60),
        (F16, (4, 3, 2), (2, 8, 24, 48), 48),
        (Q8_0, (64, 2), (34, 68, 136, 136), 136),
        (F32, (), (4, 4, 4, 4), 4),
    ],
)
def test_strides_follow_from_the_extents(
    type: int, ne: tuple[int, ...], nb: tuple[int, ...], size: int
) -> None:
    """Rows are whole blocks; every further stride is the one before times its extent (ggml.c)."""
    node = Node(type, ne)
    assert node.nb == nb
    assert node.size_bytes == size


def test_a_view_with_strides_spans_from_its_first_to_its_last_element() -> None:
    """`ggml_nbytes`: 2 columns of 3 numbers, 100 bytes apart, and 1000 bytes to the second plane."""
    assert Node(F32, (3, 2, 2), nb=(4, 100, 1000, 1000)).size_bytes == 4 + 2 * 4 + 100 + 1000
    assert Node(Q8_0, (64, 2), nb=(34, 200, 400, 400)).size_bytes == 68 + 200


def test_a_view_of_a_view_shows_the_first_tensor() -> None:
    """`viewed` is where the memory is, and `place` its backend."""
    cache = Node(F32, (8,), home=1)
    first = Node(F32, (4,), "VIEW", (cache,), viewed=cache)
    second = Node(F32, (2,), "VIEW", (first,), viewed=first)
    assert second.viewed is cache
    assert second.place == 1
    assert Node(F32, (2,)).place is None


def test_a_tensor_like_another_has_its_layout() -> None:
    """Type, extents and strides, no sources."""
    original = Node(F32, (3, 2), "ADD", (Node(F32, (3, 2)),), nb=(4, 16, 32, 32))
    copy = original.like()
    assert copy.same_layout(original)
    assert copy.sources == [] and copy.op == "NONE"
    assert not copy.same_layout(Node(F32, (3, 2)))


def test_sources_come_before_what_needs_them_from_first_to_last() -> None:
    """`ggml_build_forward_expand`: depth first; what is there already is not put in again."""
    a, b = Node(F32, (1,)), Node(F32, (1,))
    left, right = Node(F32, (1,), "SCALE", (a,)), Node(F32, (1,), "SCALE", (b,))
    total = Node(F32, (1,), "ADD", (left, right))
    twice = Node(F32, (1,), "ADD", (total, left))
    graph = Graph()
    graph.expand(right)
    graph.expand(twice)
    assert graph.nodes == [right, left, total, twice]
    assert graph.leafs == [b, a]


def test_a_long_graph_needs_no_deep_stack() -> None:
    """Ten thousand nodes in a row, far beyond Python's recursion limit."""
    node = Node(F32, (1,))
    for _ in range(10_000):
        node = Node(F32, (1,), "SCALE", (node,))
    graph = Graph()
    graph.expand(node)
    assert len(graph.nodes) == 10_000
