"""ggml's scheduler on graphs of a few nodes: who computes what, what is copied, where a split begins."""

from qwenctl.model.memory.backends import CPU_RULES, RULES, Rules
from qwenctl.model.memory.scheduler import Schedule, schedule
from qwenctl.model.memory.tensor import F32, Graph, Node

CUDA, CPU = 0, 1
RULES_OF_ONE = [RULES["cuda"], CPU_RULES]
RULES_OF_TWO = [RULES["cuda"], RULES["cuda"], CPU_RULES]


def graph_of(*last: Node) -> Graph:
    """A graph that ends in these nodes."""
    graph = Graph()
    for node in last:
        graph.expand(node)
    return graph


def weight(rows: int = 8, *, home: int) -> Node:
    """A matrix of a model."""
    return Node(F32, (8, rows), home=home, is_weight=True)


def tokens(count: int) -> Node:
    """The input of a batch."""
    return Node(F32, (8, count), is_input=True)


def mul_mat(matrix: Node, x: Node) -> Node:
    """One product."""
    return Node(F32, (matrix.ne[1], x.ne[1]), "MUL_MAT", (matrix, x))


def copies(made: Schedule) -> list[tuple[int, int, int]]:
    """Each copy between backends: from, to, bytes. A node without operation announces one."""
    order = made.nodes
    return [
        (backend, order[index + 1][1], order[index + 1][0].size_bytes)
        for index, (node, backend) in enumerate(order)
        if node.op == "NONE" and node.viewed is not None
    ]


def test_an_operation_runs_where_its_weight_is() -> None:
    """A small batch: the input is copied, the weights stay."""
    x = tokens(2)
    first = mul_mat(weight(home=CUDA), x)
    second = mul_mat(weight(home=CPU), first)
    made = schedule(graph_of(second), RULES_OF_ONE)
    assert (first.backend, second.backend) == (CUDA, CPU)
    assert copies(made) == [(CPU, CUDA, 64), (CUDA, CPU, 64)]
    assert made.splits == 2


def test_a_large_batch_brings_the_weights_to_the_gpu() -> None:
    """From 32 tokens on the host's weight is copied, 8 times 8 numbers."""
    for count, backend in ((31, CPU), (32, CUDA)):
        node = mul_mat(weight(home=CPU), tokens(count))
        made = schedule(graph_of(node), RULES_OF_ONE)
        assert node.backend == backend
        assert ((CPU, CUDA, 256) in copies(made)) == (backend == CUDA)


def test_metal_takes_over_products_alone() -> None:
    """Another operation on the host's weight stays there, however large; a repacked weight, too."""
    for op, rules, expected in (("MUL", "cuda", CUDA), ("MUL", "metal", CPU), ("MUL_MAT", "metal", CUDA)):
        node = Node(F32, (8, 64), op, (weight(home=CPU), tokens(64)))
        schedule(graph_of(node), [RULES[rules], CPU_RULES])  # type: ignore[index]
        assert node.backend == expected, (op, rules)
    repacked = weight(home=CPU)
    repacked.is_repacked = True
    node = mul_mat(repacked, tokens(64))
    schedule(graph_of(node), [RULES["metal"], CPU_RULES])
    assert node.backend == CPU


def test_what_has_no_weight_follows_its_neighbours() -> None:
    """Between two operations of a GPU it runs there; after one of the CPU, on the CPU."""
    first = mul_mat(weight(home=CUDA), tokens(2))
    between = Node(F32, first.ne, "SCALE", (first,))
    second = mul_mat(weight(home=CUDA), between)
    third = mul_mat(weight(home=CPU), second)
    after = Node(F32, third.ne, "SCALE", (third,))
    schedule(graph_of(after), RULES_OF_ONE)
    assert [node.backend for node in (first, between, second, third, after)] == [CUDA, CUDA, CUDA, CPU, CPU]


def test_a_gpu_goes_before_the_cpu() -> None:
    """Between the CPU and a GPU, the GPU takes what nobody must compute."""
    first = mul_mat(weight(home=CPU), tokens(2))
    between = Node(F32, first.ne, "SCALE", (first,))
    second = mul_mat(weight(home=CUDA), between)
    schedule(graph_of(second), RULES_OF_ONE)
    assert between.backend == CUDA


def test_no_gpu_reaches_the_memory_of_another() -> None:
    """An operation on caches of two GPUs is for the CPU."""
    one, two = Node(F32, (8, 8), home=0), Node(F32, (8, 8), home=1)
    node = Node(F32, (8, 8), "ADD", (one, two))
    schedule(graph_of(node), RULES_OF_TWO)
    assert node.backend == 2


def test_a_view_is_where_its_memory_is() -> None:
    """It is computed by nobody, and begins no split."""
    first = mul_mat(weight(home=CUDA), tokens(2))
    view = Node(F32, (16,), "RESHAPE", (first,), viewed=first)
    last = Node(F32, (16,), "SCALE", (view,))
    made = schedule(graph_of(last), RULES_OF_ONE)
    assert view.backend == CUDA
    assert made.splits == 1


def test_a_second_weight_begins_a_new_split() -> None:
    """So that the memory of the first copy is free again: two products, two splits on the same GPU."""
    first = mul_mat(weight(home=CPU), tokens(64))
    second = mul_mat(weight(home=CPU), first)
    made = schedule(graph_of(second), RULES_OF_ONE)
    assert (first.backend, second.backend) == (CUDA, CUDA)
    assert made.splits == 2


def test_an_input_is_copied_once_for_each_backend() -> None:
    """Two operations of one GPU share the copy."""
    x = tokens(2)
    one, two = mul_mat(weight(home=CUDA), x), mul_mat(weight(home=CUDA), x)
    made = schedule(graph_of(one, two), RULES_OF_ONE)
    assert copies(made) == [(CPU, CUDA, 64)]


def test_a_pipeline_keeps_four_copies_of_its_inputs() -> None:
    """On the host and on each GPU that reads them; none of them is overwritten."""
    x = tokens(2)
    first = mul_mat(weight(home=0), x)
    second = mul_mat(weight(home=1), first)
    made = schedule(graph_of(second), RULES_OF_TWO, 4)
    kept = [(backend, node.is_output) for node, backend in made.leafs if node.home is None]
    # the input itself is among the four of the host, and again among the graph's leafs
    assert kept == [(2, True)] * 4 + [(0, True)] * 4 + [(1, True)] * 4 + [(2, True)]


def test_attention_without_a_kernel_runs_on_the_cpu() -> None:
    """CUDA has none for heads of 32."""
    for length, backend in ((32, CPU), (64, CUDA)):
        q, k, v = (Node(F32, (length, 4, 2)) for _ in range(3))
        node = Node(F32, (length, 2, 4), "FLASH_ATTN_EXT", (q, k, v, tokens(4)))
        after = mul_mat(Node(F32, (length, 8), home=CUDA, is_weight=True), node)
        schedule(graph_of(after), RULES_OF_ONE)
        assert node.backend == backend, length


def test_the_host_is_alone_without_gpus() -> None:
    """One backend, one split, no copies."""
    made = schedule(graph_of(mul_mat(weight(home=0), tokens(64))), [Rules(32)])
    assert (made.splits, copies(made)) == (1, [])
