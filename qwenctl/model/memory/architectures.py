"""The graph of each family of models: its layers in terms of the blocks.

Families are listed with how sure we are of them: `exact` ones agree with llama.cpp to the byte on the shapes
of the tests, `close` ones within 3 % in total.

Source: llama.cpp src/models/qwen2.cpp, qwen3.cpp, qwen3moe.cpp, llama.cpp, gemma2.cpp, gemma3.cpp.
"""

import re
from collections.abc import Callable
from typing import Final

from qwenctl.model.gguf import Tensor
from qwenctl.model.memory.graph import GraphBuilder, Setting
from qwenctl.model.memory.hyperparameters import Hyperparameters, Unknown
from qwenctl.model.memory.tensor import Graph, Node

EXACT: Final = frozenset({"qwen2", "qwen3"})
"""Families whose figures are llama.cpp's to the byte."""


def build_graph(model: Hyperparameters, setting: Setting, tokens: int, outputs: int) -> Graph:
    """The graph of one computation of `tokens` tokens with `outputs` rows of logits.

    Raises: Unknown for a family or a tensor that we do not know.
    """
    layer, embed, cap = _FAMILIES[model.architecture]
    builder = GraphBuilder(model, setting, tokens, outputs)
    x = embed(builder)
    for index in range(model.layers):
        x = layer(builder, x, index)
    x = builder.norm(x, builder.weight("output_norm.weight", -1), -1)
    return builder.finish(cap(builder, builder.logits(x)))


def check_known(model: Hyperparameters) -> None:
    """Raises: Unknown when the family, or a tensor of the file, is not one that we know."""
    if model.architecture not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise Unknown(f"the graph of `{model.architecture}` models is not known here; those of {known} are")
    if model.experts and model.architecture not in _MIXTURES:
        raise Unknown(f"`{model.architecture}` models with experts are not known here")
    for tensor in model.tensors.values():
        _check_tensor(model, tensor)
    missing = next((name for name in _required(model) if name not in model.tensors), None)
    if missing:
        raise Unknown(f"the file has no tensor `{missing}`")


def _check_tensor(model: Hyperparameters, tensor: Tensor) -> None:
    match = _TENSORS.fullmatch(tensor.name)
    if not match or int(match["layer"] or 0) >= model.layers:
        raise Unknown(f"tensor `{tensor.name}` is not one that a plain `{model.architecture}` model has")
    if not tensor.elements or tensor.dimensions != _expected(model, tensor):
        shape = " x ".join(map(str, tensor.dimensions))
        raise Unknown(f"tensor `{tensor.name}` is {shape}, which does not fit the rest of the header")


_TENSORS: Final = re.compile(
    r"(?:token_embd|output|output_norm|rope_freqs)\.weight|output\.bias"
    r"|blk\.(?P<layer>0|[1-9][0-9]{0,3})\."
    r"(?:(?:attn_(?:norm|q_norm|k_norm)|post_attention_norm|post_ffw_norm|ffn_norm"
    r"|ffn_gate_inp|ffn_(?:up|gate|down)(?:_exps)?|attn_(?:q|k|v|output))\.weight"
    r"|(?:attn_(?:q|k|v|output)|ffn_(?:up|gate|down))\.bias)"
)
_LAYER: Final = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm")
_DENSE: Final = ("ffn_up", "ffn_gate", "ffn_down")
_EXPERTS: Final = ("ffn_gate_inp", "ffn_up_exps", "ffn_gate_exps", "ffn_down_exps")
_MIXTURES: Final = frozenset({"qwen3moe", "llama"})
_NORMED: Final = ("attn_q_norm", "attn_k_norm")
_POST: Final = ("post_attention_norm", "post_ffw_norm")
_FURTHER: Final[dict[str, tuple[str, ...]]] = {
    "qwen3": _NORMED,
    "qwen3moe": _NORMED,
    "gemma2": _POST,
    "gemma3": (*_NORMED, *_POST),
}


def _required(model: Hyperparameters) -> list[str]:
    network = _EXPERTS if model.architecture == "qwen3moe" or model.experts else _DENSE
    names = (*_LAYER, *network, *_FURTHER.get(model.architecture, ()))
    each = [f"blk.{layer}.{name}.weight" for layer in range(model.layers) for name in names]
    return ["output_norm.weight", *each]


def _expected(model: Hyperparameters, tensor: Tensor) -> tuple[int, ...]:
    """The shape that a tensor must have for the graph to hold together; its own where any will do."""
    width, heads, found = model.width, model.heads, tensor.dimensions
    match tensor.name.split(".")[2:]:
        case ["attn_q", "weight"]:
            return width, heads * model.key_length
        case ["attn_k", "weight"]:
            return width, model.key_row
        case ["attn_v", "weight"]:
            return width, model.value_row
        case ["attn_output", "weight"]:
            return heads * model.value_length, width
        case ["ffn_up" | "ffn_gate", "weight"]:
            return width, *found[-1:]
        case ["ffn_gate_inp", "weight"]:
            return width, model.experts
        case ["ffn_up_exps" | "ffn_gate_exps", "weight"]:
            return width, *found[1:2], model.experts
    return found or (width,)


def _qkv(builder: GraphBuilder, x: Node, layer: int) -> tuple[Node, Node, Node]:
    model = builder.model
    return (
        builder.projection(x, layer, "attn_q", model.key_length, model.heads),
        builder.projection(x, layer, "attn_k", model.key_length, model.kv_heads),
        builder.projection(x, layer, "attn_v", model.value_length, model.kv_heads),
    )


def _normed(builder: GraphBuilder, x: Node, layer: int, name: str) -> Node:
    return builder.norm(x, builder.weight(f"blk.{layer}.{name}.weight", layer), layer)


def _rows_of_last(builder: GraphBuilder, layer: int, *tensors: Node) -> tuple[Node, ...]:
    return builder.last_rows(*tensors) if layer == builder.model.layers - 1 else tensors


def _dense_layer(builder: GraphBuilder, x: Node, layer: int) -> Node:
    """qwen2, and llama with its factors of the rotary positions."""
    factors = builder.weight("rope_freqs.weight", layer) if builder.has("rope_freqs.weight") else None
    q, k, v = _qkv(builder, _normed(builder, x, layer, "attn_norm"), layer)
    mixed = builder.attention(builder.rope(q, factors), builder.rope(k, factors), v, layer)
    return _network(builder, mixed, x, layer)


def _normed_layer(builder: GraphBuilder, x: Node, layer: int) -> Node:
    """qwen3 and qwen3moe: norms on Q and K before the rotary positions."""
    q, k, v = _qkv(builder, _normed(builder, x, layer, "attn_norm"), layer)
    q = builder.rope(_normed(builder, q, layer, "attn_q_norm"))
    k = builder.rope(_normed(builder, k, layer, "attn_k_norm"))
    return _network(builder, builder.attention(q, k, v, layer), x, layer)


def _network(builder: GraphBuilder, mixed: Node, residual: Node, layer: int) -> Node:
    mixed, residual = _rows_of_last(builder, layer, mixed, residual)
    x = builder.add(mixed, residual)
    normed = _normed(builder, x, layer, "ffn_norm")
    network = builder.experts if builder.has(f"blk.{layer}.ffn_gate_inp.weight") else builder.feed_forward
    return builder.add(network(normed, layer), x)


def _gemma2_layer(builder: GraphBuilder, x: Node, layer: int) -> Node:
    q, k, v = _qkv(builder, _normed(builder, x, layer, "attn_norm"), layer)
    q, k = builder.rope(q), builder.rope(k)
    return _gemma_network(builder, _windowed(builder, builder.same("SCALE", q), k, v, layer), x, layer)


def _gemma3_layer(builder: GraphBuilder, x: Node, layer: int) -> Node:
    q, k, v = _qkv(builder, _normed(builder, x, layer, "attn_norm"), layer)
    q = builder.rope(_normed(builder, q, layer, "attn_q_norm"))
    k = builder.rope(_normed(builder, k, layer, "attn_k_norm"))
    return _gemma_network(builder, _windowed(builder, builder.same("SCALE", q), k, v, layer), x, layer)


def _windowed(builder: GraphBuilder, q: Node, k: Node, v: Node, layer: int) -> Node:
    """Attention over the two caches of a model with windows. Source: `build_attn` of `…_kv_iswa`."""
    return builder.attention(q, k, v, layer, keys_last=not any(builder.model.window_pattern))


def _gemma_network(builder: GraphBuilder, mixed: Node, residual: Node, layer: int) -> Node:
    mixed, residual = _rows_of_last(builder, layer, mixed, residual)
    x = builder.add(_normed(builder, mixed, layer, "post_attention_norm"), residual)
    made = builder.feed_forward(_normed(builder, x, layer, "ffn_norm"), layer)
    post = builder.weight(f"blk.{layer}.post_ffw_norm.weight", layer)
    return builder.add(builder.norm(made, post, -1), x)


def _plain_embedding(builder: GraphBuilder) -> Node:
    return builder.embedding()


def _scaled_embedding(builder: GraphBuilder) -> Node:
    return builder.same("SCALE", builder.embedding())


def _uncapped(builder: GraphBuilder, logits: Node) -> Node:
    return logits


def _capped(builder: GraphBuilder, logits: Node) -> Node:
    if builder.model.logit_softcap:
        for op in ("SCALE", "UNARY", "SCALE"):
            logits = builder.same(op, logits)
    return logits


Layer = Callable[[GraphBuilder, Node, int], Node]
_FAMILIES: Final[
    dict[str, tuple[Layer, Callable[[GraphBuilder], Node], Callable[[GraphBuilder, Node], Node]]]
] = {
    "qwen2": (_dense_layer, _plain_embedding, _uncapped),
    "qwen3": (_normed_layer, _plain_embedding, _uncapped),
    "qwen3moe": (_normed_layer, _plain_embedding, _uncapped),
    "llama": (_dense_layer, _plain_embedding, _uncapped),
    "gemma2": (_gemma2_layer, _scaled_embedding, _capped),
    "gemma3": (_gemma3_layer, _scaled_embedding, _capped),
}
