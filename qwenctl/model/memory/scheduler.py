"""ggml's scheduler: which backend computes what, and which tensors are copied between them.

Source: llama.cpp ggml/src/ggml-backend.cpp, `ggml_backend_sched_split_graph`; its passes are kept in their
order. What a backend supports is simplified: a GPU computes everything whose sources lie with it or
on the host, but for flash attention over heads that it has no kernel for; the CPU everything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from qwenctl.model.memory.backends import Rules
from qwenctl.model.memory.tensor import UNASSIGNED, VIEW_OPS, Graph, Node

PIPELINE_COPIES: Final = 4
"""Copies of the inputs where GPUs work as a pipeline. Source: ggml-backend.cpp, GGML_SCHED_MAX_COPIES."""
_ALONE: Final = frozenset({"ROPE", "FLASH_ATTN_EXT"})  # their weights are too small to decide where they run


@dataclass(slots=True)
class _Split:
    backend: int
    start: int
    end: int = 0
    inputs: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the allocator is given: nodes and leafs in order, each with its backend."""

    nodes: list[tuple[Node, int]]
    leafs: list[tuple[Node, int]]
    splits: int


def schedule(graph: Graph, rules: Sequence[Rules], copies: int = 1) -> Schedule:
    """Assigns and splits `graph` over the backends with these rules, the last of which is the CPU.

    Changes the nodes. `copies` of the inputs are kept where GPUs work as a pipeline.
    """
    assign(graph, rules)
    return _collect(graph, _split(graph, copies), copies)


def assign(graph: Graph, rules: Sequence[Rules]) -> None:
    """Gives every node a backend; also for asking where flash attention would run."""
    host = len(rules) - 1
    for node in graph.nodes:
        node.bound = _bound(node, rules)
    for node in (*graph.leafs, *graph.nodes):
        if node.backend == UNASSIGNED:
            node.backend = _by_sources(node, rules)
    working = [node for node in graph.nodes if node.op not in VIEW_OPS]
    _spread(working, host, skip=host)
    _spread(reversed(working), host, skip=host)
    _spread(working, host, skip=UNASSIGNED)
    _spread(reversed(working), host, skip=UNASSIGNED)
    for node in working:
        if node.backend == UNASSIGNED:
            node.backend = _most_supported(node, host)
    for node in graph.nodes:
        _assign_sources(node, host)


def _bound(node: Node, rules: Sequence[Rules]) -> int:
    """The one backend beside the CPU that can compute `node`; UNASSIGNED when all can.

    A GPU cannot reach the memory of another GPU, and has not all kernels.
    """
    host, bound = len(rules) - 1, UNASSIGNED
    for source in node.sources:
        place = source.place
        if place is None or place in (host, bound):
            continue
        bound = place if bound == UNASSIGNED else host
    if node.op == "FLASH_ATTN_EXT":
        able = rules[:-1] if bound == UNASSIGNED else (rules[bound],)
        return bound if all(rule.has_attention(node.sources[1].ne[0]) for rule in able) else host
    return bound


def _supports(backend: int, node: Node, host: int) -> bool:
    return backend == host or node.bound in (UNASSIGNED, backend)


def _by_place(tensor: Node, op: Node, host: int) -> int:
    place = tensor.place
    return place if place is not None and _supports(place, op, host) else UNASSIGNED


def _by_sources(node: Node, rules: Sequence[Rules]) -> int:
    """Source: `ggml_backend_sched_backend_id_from_cur`."""
    host = len(rules) - 1
    placed = _by_place(node, node, host)
    if placed != UNASSIGNED:
        return placed
    if node.is_input:
        return host
    if node.op in _ALONE:
        return UNASSIGNED
    weight = next((source for source in node.sources if source.is_weight), None)
    if weight is None:
        return UNASSIGNED
    placed = _by_place(weight, node, host)
    if placed == host and not weight.is_repacked:
        gpus = (b for b in range(host) if _supports(b, node, host) and rules[b].takes_over(node))
        return next(gpus, host)
    return placed


def _spread(nodes: Iterable[Node], host: int, skip: int) -> None:
    """Neighbours take over a backend; `skip` is one that is not handed on."""
    current = UNASSIGNED
    for node in nodes:
        if node.backend != UNASSIGNED:
            current = UNASSIGNED if node.backend == skip else node.backend
        elif current != UNASSIGNED and _supports(current, node, host):
            node.backend = current


def _memory(node: Node) -> int:
    """The backend whose memory a tensor is in, or will be."""
    place = node.place
    if place is not None:
        return place
    if node.backend == UNASSIGNED and node.viewed is not None:
        return node.viewed.backend
    return node.backend


def _most_supported(node: Node, host: int) -> int:
    best, chosen = -1, UNASSIGNED
    for backend in range(host + 1):
        if not _supports(backend, node, host):
            continue
        near = sum(1 for source in node.sources if _memory(source) == backend)
        if near > best:
            best, chosen = near, backend
    return chosen


def _assign_sources(node: Node, host: int) -> None:
    if node.viewed is not None and node.backend == UNASSIGNED:
        node.backend = node.viewed.backend
    for source in node.sources:
        if source.backend == UNASSIGNED:
            source.backend = node.backend if source.viewed is None else source.viewed.backend
    if node.backend == UNASSIGNED:
        node.backend = next(b for b in range(host + 1) if _supports(b, node, host))


def _split(graph: Graph, copies: int) -> list[_Split]:
    first = next(i for i, node in enumerate(graph.nodes) if node.op not in VIEW_OPS)
    split = _Split(graph.nodes[first].backend, 0)
    splits = [split]
    for index in range(first, len(graph.nodes)):
        node = graph.nodes[index]
        if node.op in VIEW_OPS:
            continue
        if node.backend != split.backend or (split.inputs and _brings_a_weight(node, split.backend)):
            split.end = index
            split = _Split(node.backend, index)
            splits.append(split)
        _copy_sources(node, split, copies)
    split.end = len(graph.nodes)
    return splits


def _brings_a_weight(node: Node, backend: int) -> bool:
    """A new split begins with it, so that the memory of the weight copied before can be used again."""
    return any(
        source.is_weight and source.backend != backend and _memory(source) != backend
        for source in node.sources
    )


def _copy_sources(node: Node, split: _Split, copies: int) -> None:
    for index, source in enumerate(node.sources):
        if source.backend == split.backend or _memory(source) == split.backend:
            continue
        known = _copies(source)
        if split.backend not in known:
            known[split.backend] = [_copy(source, split.backend, copies) for _ in range(copies)]
            split.inputs.append(source)
        node.sources[index] = known[split.backend][0]


def _copies(source: Node) -> dict[int, list[Node]]:
    """The copies of a tensor by their backend."""
    if source.copies is None:
        source.copies = {}
    return source.copies


def _copy(source: Node, backend: int, copies: int) -> Node:
    made = source.like()
    made.backend = backend
    made.is_input = made.is_output = copies > 1  # else the allocator would overwrite it
    return made


def _collect(graph: Graph, splits: list[_Split], copies: int) -> Schedule:
    leafs: list[tuple[Node, int]] = []
    if copies > 1:
        for leaf in graph.leafs:
            leafs += _input_copies(leaf, copies)
        for split in splits:
            for source in split.inputs:
                leafs += [(made, split.backend) for made in _copies(source)[split.backend]]
    leafs += [(leaf, leaf.backend) for leaf in graph.leafs]
    nodes: list[tuple[Node, int]] = []
    for split in splits:
        for source in split.inputs:
            # keeps the source alive until it is copied, and makes room for the copy
            kept = Node(source.type, source.ne, "NONE", (source,), nb=source.nb, viewed=source)
            nodes += [(kept, source.backend), (_copies(source)[split.backend][0], split.backend)]
        nodes += [(node, node.backend) for node in graph.nodes[split.start : split.end]]
    return Schedule(nodes, leafs, len(splits))


def _input_copies(leaf: Node, copies: int) -> list[tuple[Node, int]]:
    if not leaf.is_input:
        return []
    known = _copies(leaf)
    if leaf.backend not in known:
        known[leaf.backend] = [leaf, *(_copy(leaf, leaf.backend, copies) for _ in range(copies - 1))]
        leaf.is_output = True
    return [(made, leaf.backend) for made in known[leaf.backend]]
