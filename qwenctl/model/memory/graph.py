"""llama.cpp's building blocks of a computation graph: embedding, norms, attention over the cache, layers.

The order in which nodes come into the graph decides how the allocator reuses memory, so every block
follows the original operation by operation.

Source: llama.cpp src/llama-graph.cpp (`llm_graph_context`), src/llama-kv-cache.cpp.
"""

from dataclasses import dataclass
from typing import Final

from qwenctl.model.memory.configuration import KV_TYPES, QUANTIZED_KV, KvType, Sizes
from qwenctl.model.memory.hyperparameters import Hyperparameters
from qwenctl.model.memory.tensor import F16, F32, I32, I64, Graph, Node
from qwenctl.model.quantization import TENSOR_TYPES

_ROTATION: Final = 64  # the smallest Hadamard matrix that a quantized cache is rotated by
_REPACKED_ROWS: Final = 8  # ggml-cpu/repack.cpp: rows are interleaved by eight
_FORCED_BELOW: Final = 32  # tokens; smaller batches are bound to the device of their layer


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how large: what a graph is built for.

    `devices` is the backend of each layer, and last of the output; `host` is the last backend, the CPU.
    `pinned`: norms are bound to the device of their layer, as a real load has it where all layers are on
    GPUs; a measurement without allocation loses them (llama.cpp resets its scheduler in between).
    `transposed`: V is cached by columns. llama.cpp decides that before it finds out whether `auto` is on.
    `repacked` are the types that the CPU stores in an order of its own, out of the GPUs' reach.
    """

    sizes: Sizes
    flash_attention: bool
    kv_type: KvType
    devices: tuple[int, ...]
    host: int
    full_offload: bool
    window_cells: int
    transposed: bool
    pinned: bool = True
    repacked: frozenset[int] = frozenset()

    @property
    def cache_type(self) -> int:
        """The ggml type of the cache."""
        return KV_TYPES[self.kv_type]


@dataclass(slots=True)
class _CacheInputs:
    """What attention over one cache needs beside the cache: indices to store at, mask, rotations."""

    cells: int
    key_indices: Node
    value_indices: Node
    mask: Node
    key_rotation: Node | None
    value_rotation: Node | None


class GraphBuilder:
    """One graph under construction. Methods named like llama.cpp's make the same nodes in the same order."""

    def __init__(self, model: Hyperparameters, setting: Setting, tokens: int, outputs: int) -> None:
        self.graph = Graph()
        self.model = model
        self.setting = setting
        self.tokens = tokens
        self.outputs = outputs
        self._weights: dict[tuple[str, int], Node] = {}
        self._cache: _CacheInputs | None = None
        self._window_cache: _CacheInputs | None = None
        self.position = _input(I32, tokens)
        self.output_ids = _input(I32, outputs)

    # --- weights -----------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        """Whether the model has this tensor."""
        return name in self.model.tensors

    def weight(self, name: str, layer: int) -> Node:
        """A weight on the device of `layer`; -1 is the output's."""
        return self.weight_at(name, self.setting.devices[layer])

    def weight_at(self, name: str, backend: int) -> Node:
        """A weight in the memory of `backend`: one node, however many layers share it."""
        known = self._weights.get((name, backend))
        if known is None:
            tensor = self.model.tensors[name]
            known = Node(tensor.type, tensor.dimensions, home=backend, is_weight=True)
            known.is_repacked = tensor.type in self.setting.repacked and known.ne[1] % _REPACKED_ROWS == 0
            self._weights[name, backend] = known
        return known

    # --- operations --------------------------------------------------------------------------------

    def op(self, op: str, ne: tuple[int, ...], *sources: Node) -> Node:
        """A node of 32-bit numbers that `op` makes of `sources`."""
        return Node(F32, ne, op, sources)

    def mul_mat(self, weight: Node, x: Node) -> Node:
        """`weight` times `x`."""
        return Node(F32, (weight.ne[1], x.ne[1], x.ne[2], x.ne[3]), "MUL_MAT", (weight, x))

    def add(self, a: Node, b: Node) -> Node:
        """The sum, in the shape of `a`."""
        return Node(F32, a.ne, "ADD", (a, b))

    def same(self, op: str, a: Node, *more: Node) -> Node:
        """A node in the shape of its first source."""
        return Node(F32, a.ne, op, (a, *more))

    def get_rows(self, table: Node, ids: Node) -> Node:
        """The rows of `table` that `ids` name."""
        return Node(F32, (table.ne[0], ids.ne[0], ids.ne[1], ids.ne[2]), "GET_ROWS", (table, ids))

    def reshape(self, x: Node, *ne: int) -> Node:
        """The same memory in another shape."""
        return Node(x.type, ne, "RESHAPE", (x,), viewed=x)

    # --- blocks ------------------------------------------------------------------------------------

    def embedding(self) -> Node:
        """Token embeddings, looked up on the host. Source: `build_inp_embd`."""
        table = self.weight_at("token_embd.weight", self.setting.host)
        looked_up = self.get_rows(table, _input(I32, self.tokens))
        self.graph.expand(looked_up)
        self.graph.expand(_input(F32, self.model.width, self.tokens))  # the other way in, unused
        return looked_up

    def norm(self, x: Node, weight: Node, layer: int) -> Node:
        """RMS norm with its weight; -1 is bound to no device. Source: `build_norm`, `graph_get_cb`."""
        normed = self.same("RMS_NORM", x)
        small = self.tokens < _FORCED_BELOW
        if layer >= 0 and self.setting.pinned and (small or self.setting.full_offload):
            normed.backend = self.setting.devices[layer]
        return self.same("MUL", normed, weight)

    def projection(self, x: Node, layer: int, name: str, length: int, heads: int) -> Node:
        """Q, K or V of one layer, with its bias where there is one. Source: `build_qkv`."""
        prefix = f"blk.{layer}.{name}"
        made = self.mul_mat(self.weight(f"{prefix}.weight", layer), x)
        if self.has(f"{prefix}.bias"):
            made = self.add(made, self.weight(f"{prefix}.bias", layer))
        return self.reshape(made, length, heads, self.tokens)

    def rope(self, x: Node, factors: Node | None = None) -> Node:
        """Rotary positions."""
        return self.same("ROPE", x, self.position, *([factors] if factors else []))

    def attention(self, q: Node, k: Node, v: Node, layer: int, *, keys_last: bool = True) -> Node:
        """Stores K and V, attends over the cache, projects. Source: `build_attn`, `build_attn_mha`."""
        windowed = self.model.window_pattern[layer]
        inputs = self._inputs(windowed)
        if inputs.key_rotation is not None:
            q, k = self._rotated(q, inputs.key_rotation), self._rotated(k, inputs.key_rotation)
        if inputs.value_rotation is not None:
            v = self._rotated(v, inputs.value_rotation)
        for node in (q, v, k) if keys_last else (q, k, v):
            self.graph.expand(node)
        mixed = self._attend(q, *self._stored(k, v, inputs, layer), inputs.mask, layer)
        self.graph.expand(mixed)
        if inputs.value_rotation is not None:
            mixed = self._rotated(mixed, inputs.value_rotation)
        made = self.mul_mat(self.weight(f"blk.{layer}.attn_output.weight", layer), mixed)
        if self.has(f"blk.{layer}.attn_output.bias"):
            made = self.add(made, self.weight(f"blk.{layer}.attn_output.bias", layer))
        return made

    def feed_forward(self, x: Node, layer: int) -> Node:
        """Gated feed-forward network. Source: `build_ffn` with a parallel gate."""
        prefix = f"blk.{layer}.ffn_"
        up = self._biased(x, f"{prefix}up", layer)
        gate = self._biased(x, f"{prefix}gate", layer)
        return self._biased(self.same("GLU", gate, up), f"{prefix}down", layer)

    def experts(self, x: Node, layer: int) -> Node:
        """Mixture of experts, the router's weights normalised. Source: `build_moe_ffn`, softmax gating."""
        n, used, tokens, width = self.model.experts, self.model.experts_used, x.ne[1], x.ne[0]
        prefix = f"blk.{layer}.ffn_"
        probabilities = self.same("SOFT_MAX", self.mul_mat(self.weight(f"{prefix}gate_inp.weight", layer), x))
        order = Node(I32, probabilities.ne, "ARGSORT", (probabilities,))
        chosen = Node(
            I32, (used, tokens), "VIEW", (order,), nb=(4, 4 * n, 4 * n * tokens, 4 * n * tokens), viewed=order
        )
        weights = self.get_rows(self.reshape(probabilities, 1, n, tokens), chosen)
        weights = self.reshape(weights, used, tokens)
        total = self.same("CLAMP", self.op("SUM_ROWS", (1, tokens), weights))
        weights = self.reshape(self.same("DIV", weights, total), 1, used, tokens)
        self.graph.expand(weights)
        x = self.reshape(x, width, 1, tokens)
        up = self._mul_mat_id(self.weight(f"{prefix}up_exps.weight", layer), x, chosen)
        gate = self._mul_mat_id(self.weight(f"{prefix}gate_exps.weight", layer), x, chosen)
        made = self.same("GLU", gate, up)
        made = self._mul_mat_id(self.weight(f"{prefix}down_exps.weight", layer), made, chosen)
        made = self.same("MUL", made, weights)
        self.graph.expand(made)
        return self._summed(made, used, tokens)

    def last_rows(self, *tensors: Node) -> tuple[Node, ...]:
        """The rows that logits are asked of."""
        return tuple(self.get_rows(tensor, self.output_ids) for tensor in tensors)

    def logits(self, x: Node) -> Node:
        """The output layer; its own weight, else the embedding's. Source: `build_lora_mm(model.output)`."""
        x.is_output = True
        name = "output.weight" if self.has("output.weight") else "token_embd.weight"
        made = self.mul_mat(self.weight(name, -1), x)
        if self.has("output.bias"):
            made = self.add(made, self.weight("output.bias", -1))
        return made

    def finish(self, logits: Node) -> Graph:
        """The whole graph."""
        logits.is_output = True
        self.graph.expand(logits)
        return self.graph

    # --- parts -------------------------------------------------------------------------------------

    def _biased(self, x: Node, name: str, layer: int) -> Node:
        made = self.mul_mat(self.weight(f"{name}.weight", layer), x)
        return self.add(made, self.weight(f"{name}.bias", layer)) if self.has(f"{name}.bias") else made

    def _mul_mat_id(self, weights: Node, x: Node, ids: Node) -> Node:
        return Node(F32, (weights.ne[1], ids.ne[0], x.ne[2]), "MUL_MAT_ID", (weights, x, ids))

    def _summed(self, experts: Node, used: int, tokens: int) -> Node:
        """Each expert's part as a view, then one addition after the other."""
        row = (experts.nb[0], experts.nb[2], experts.nb[2] * tokens, experts.nb[2] * tokens)
        parts = [
            Node(F32, (experts.ne[0], tokens), "VIEW", (experts,), nb=row, viewed=experts)
            for _ in range(used)
        ]
        for part in parts:
            self.graph.expand(part)
        total = parts[0]
        for part in parts[1:]:
            total = self.add(total, part)
            self.graph.expand(total)
        return total if used > 1 else self.same("CONT", total)

    def _inputs(self, windowed: bool) -> _CacheInputs:
        if windowed:
            if self._window_cache is None:
                self._window_cache = self._cache_inputs(self.setting.window_cells)
            return self._window_cache
        if self._cache is None:
            self._cache = self._cache_inputs(self.setting.sizes.cells)
        return self._cache

    def _cache_inputs(self, cells: int) -> _CacheInputs:
        setting, model = self.setting, self.model
        streams = setting.sizes.streams
        flash = setting.flash_attention
        quantized = setting.kv_type in QUANTIZED_KV
        return _CacheInputs(
            cells=cells,
            key_indices=_input(I64, self.tokens),
            value_indices=_input(I64, self.tokens * (model.value_row if setting.transposed else 1)),
            mask=_input(F16 if flash else F32, cells, self.tokens // streams, 1, streams),
            key_rotation=_rotation(_largest_rotation(model.key_length))
            if quantized and model.key_length % _ROTATION == 0
            else None,
            value_rotation=_rotation(_ROTATION)
            if quantized and model.value_length % _ROTATION == 0
            else None,
        )

    def _rotated(self, x: Node, rotation: Node) -> Node:
        """Source: llama-impl, `llama_mul_mat_hadamard`."""
        size = rotation.ne[0]
        count = x.ne[0] * x.ne[1] * x.ne[2] * x.ne[3] // size
        flat = self.reshape(x, size, count)
        return self.reshape(self.op("MUL_MAT", (size, count), rotation, flat), *x.ne)

    def _stored(self, k: Node, v: Node, inputs: _CacheInputs, layer: int) -> tuple[Node, Node]:
        """The cache's K and V as views, after this batch was stored. Source: `cpy_k` … `get_v`."""
        model, setting = self.model, self.setting
        streams, cells, kind = setting.sizes.streams, inputs.cells, setting.cache_type
        home = setting.devices[layer]
        keys = Node(kind, (model.key_row, cells, streams), home=home)
        values = Node(kind, (model.value_row, cells, streams), home=home)
        self._store(keys, k, model.key_row, inputs.key_indices)
        if setting.transposed:
            self._store_transposed(values, v, inputs.value_indices)
        else:
            self._store(values, v, model.value_row, inputs.value_indices)
        k_view = Node(kind, (model.key_length, model.kv_heads, cells, streams), "VIEW", (keys,), viewed=keys)
        if not setting.transposed:
            shape = (model.value_length, model.kv_heads, cells, streams)
            return k_view, Node(kind, shape, "VIEW", (values,), viewed=values)
        shape = (cells, model.kv_heads, model.value_length, streams)
        element = TENSOR_TYPES[kind]
        row = element.row_bytes(cells)
        strides = (element.block_bytes, row * model.value_length, row, row * model.value_row)
        return k_view, Node(kind, shape, "VIEW", (values,), nb=strides, viewed=values)

    def _store(self, cache: Node, x: Node, row: int, indices: Node) -> None:
        flat = Node(x.type, (row, self.tokens), "VIEW", (x,), viewed=x)
        if cache.ne[2] > 1:
            cache = self.reshape(cache, row, cache.ne[1] * cache.ne[2])
        self._set_rows(cache, flat, indices)

    def _store_transposed(self, cache: Node, v: Node, indices: Node) -> None:
        flat = self.reshape(v, self.model.value_row, self.tokens)
        whole = cache.ne[0] * cache.ne[1] * cache.ne[2]
        block = TENSOR_TYPES[cache.type].block_elements
        rows = self.reshape(cache, block, whole // block)
        self._set_rows(rows, self.reshape(flat, 1, self.model.value_row * self.tokens), indices)

    def _set_rows(self, cache: Node, x: Node, indices: Node) -> None:
        self.graph.expand(
            Node(cache.type, cache.ne, "SET_ROWS", (x, indices, cache), nb=cache.nb, viewed=cache)
        )

    def _attend(self, q: Node, k: Node, v: Node, mask: Node, layer: int) -> Node:
        streams = self.setting.sizes.streams
        length, heads, tokens, _ = q.ne
        split = tokens // streams
        q = Node(
            F32,
            (length, heads, split, streams),
            "VIEW",
            (q,),
            nb=(q.nb[0], q.nb[1], q.nb[2], q.nb[2] * split),
            viewed=q,
        )
        q, k, v = (_swapped(x) for x in (q, k, v))
        if self.setting.flash_attention:
            return self._flash(q, k, v, mask)
        scores = self.op("MUL_MAT", (k.ne[1], q.ne[1], heads, streams), k, q)
        if self.model.attention_softcap:
            for op in ("SCALE", "UNARY", "SCALE"):
                scores = self.same(op, scores)
        scores = self.same("SOFT_MAX", scores, mask)
        if not self.setting.transposed:
            v = _turned(v)
        mixed = _swapped(self.op("MUL_MAT", (v.ne[1], q.ne[1], heads, streams), v, scores))
        return self.op("CONT", (mixed.ne[0] * mixed.ne[1], mixed.ne[2] * mixed.ne[3]), mixed)

    def _flash(self, q: Node, k: Node, v: Node, mask: Node) -> Node:
        k, v = (self._cast(x) if x.type == F32 else x for x in (k, v))
        made = self.op("FLASH_ATTN_EXT", (v.ne[0], q.ne[2], q.ne[1], q.ne[3]), q, k, v, mask)
        return self.reshape(made, made.ne[0] * made.ne[1], made.ne[2] * made.ne[3])

    def _cast(self, x: Node) -> Node:
        """To 16 bits. The node is its own second source. Source: ggml.c, `ggml_cast`."""
        made = Node(F16, x.ne, "CPY", (x,))
        made.sources.append(made)
        return made


def _input(type: int, *ne: int) -> Node:
    return Node(type, ne, is_input=True)


def _rotation(size: int) -> Node:
    return _input(F32, size, size)


def _largest_rotation(length: int) -> int:
    """The largest power of two from 64 up that divides `length`. Source: `build_input_k_rot`."""
    size = _ROTATION
    while length % (size * 2) == 0:
        size *= 2
    return size


def _swapped(x: Node) -> Node:
    """Second and third extent exchanged, in the same memory. Source: ggml.c, `ggml_permute` 0, 2, 1, 3."""
    a, b, c, d = x.ne
    p, q, r, s = x.nb
    return Node(x.type, (a, c, b, d), "PERMUTE", (x,), nb=(p, r, q, s), viewed=x)


def _turned(x: Node) -> Node:
    """Rows and columns exchanged, in memory of its own. Source: ggml.c, `ggml_cont` of `ggml_transpose`."""
    (a, b, c, d), (p, q, r, s) = x.ne, x.nb
    view = Node(x.type, (b, a, c, d), "TRANSPOSE", (x,), nb=(q, p, r, s), viewed=x)
    return Node(x.type, view.ne, "CONT", (view,))
