"""The graph of a model: how many nodes llama.cpp counts, and where they may run."""

from dataclasses import replace

import pytest

from qwenctl.model.memory.architectures import build_graph
from qwenctl.model.memory.configuration import Configuration, normalise
from qwenctl.model.memory.graph import Setting
from qwenctl.model.memory.hyperparameters import read_hyperparameters
from qwenctl.model.memory.tensor import F16, F32, Graph, Node
from tests.model.memory.memory_builders import TINY, known_shape, shape_of


def graph(name: str, configuration: Configuration, devices: int = 0) -> Graph:
    """The graph of a well-known model on the CPU, or on a GPU."""
    model = read_hyperparameters(known_shape(name) if name != "tiny" else shape_of(TINY))
    sizes = normalise(configuration)
    setting = Setting(
        sizes=sizes,
        flash_attention=configuration.flash_attention != "off",
        kv_type=configuration.kv_type,
        devices=(0,) * (model.layers + 1),
        host=devices,
        full_offload=bool(devices),
        window_cells=sizes.cells,
        transposed=configuration.flash_attention == "off",
    )
    return build_graph(model, setting, sizes.tokens, sizes.outputs)


def operations(made: Graph, op: str) -> list[Node]:
    """The nodes of one operation."""
    return [node for node in made.nodes if node.op == op]


@pytest.mark.parametrize(
    "name", ["qwen2.5-0.5b", "qwen3-0.6b", "qwen3-30b-a3b", "llama-3.2-1b", "gemma-3-1b"]
)
def test_every_source_comes_before_its_reader(name: str) -> None:
    """And every node is there once."""
    made = graph(name, Configuration(context_tokens=1024))
    known = set(made.leafs)
    for node in made.nodes:
        assert all(source in known or source is node for source in node.sources), node.op
        assert node not in known
        known.add(node)


def test_each_layer_stores_and_attends_once() -> None:
    """K and V are stored before the attention that reads them."""
    made = graph("tiny", Configuration(context_tokens=1024))
    assert len(operations(made, "FLASH_ATTN_EXT")) == 3
    stored = operations(made, "SET_ROWS")
    assert len(stored) == 6
    order = [node.op for node in made.nodes if node.op in ("SET_ROWS", "FLASH_ATTN_EXT")]
    assert order == ["SET_ROWS", "SET_ROWS", "FLASH_ATTN_EXT"] * 3


def test_without_flash_attention_there_are_scores() -> None:
    """Of every token for every cell and head, in 32 bits; the mask in 32 bits too."""
    made = graph("tiny", Configuration(context_tokens=1024, flash_attention="off"))
    scores = operations(made, "SOFT_MAX")
    assert [node.ne for node in scores] == [(1024, 512, 2, 1)] * 3
    assert {node.sources[1].type for node in scores} == {F32}
    flash = graph("tiny", Configuration(context_tokens=1024))
    assert {node.sources[3].type for node in operations(flash, "FLASH_ATTN_EXT")} == {F16}


def test_only_the_rows_with_logits_reach_the_output() -> None:
    """The last layer picks them before its feed-forward network."""
    made = graph("tiny", Configuration(context_tokens=1024, slots=2))
    assert made.nodes[-1].ne == (1000, 2, 1, 1)
    assert [node.ne[1] for node in operations(made, "GLU")] == [512, 512, 2]


def test_a_quantized_cache_rotates_keys_and_values() -> None:
    """Three times before attention and once behind it, in each layer."""
    plain = operations(graph("tiny", Configuration(context_tokens=1024)), "MUL_MAT")
    rotated = operations(graph("tiny", Configuration(context_tokens=1024, kv_type="q8_0")), "MUL_MAT")
    assert len(rotated) - len(plain) == 4 * 3


def test_norms_are_bound_where_all_layers_are_on_gpus() -> None:
    """And nowhere without GPUs, unless the batch is tiny."""
    for devices, ubatch, bound in ((1, 512, True), (0, 512, False), (0, 16, True)):
        made = graph("tiny", Configuration(context_tokens=1024, ubatch_tokens=ubatch), devices)
        norms = operations(made, "RMS_NORM")
        assert [node.backend == 0 for node in norms] == [bound] * 6 + [False]


def test_windows_have_a_cache_of_their_own() -> None:
    """Five of six layers of gemma3; their mask is another input."""
    made = graph("gemma-3-1b", Configuration(context_tokens=8192))
    masks = [node.sources[3] for node in operations(made, "FLASH_ATTN_EXT")]
    assert len(set(masks)) == 2
    assert [masks[index] is masks[0] for index in range(12)] == [True] * 5 + [False] + [True] * 5 + [False]


def test_layers_of_another_shape_change_the_graph_alone() -> None:
    """A model with one layer more has one attention more."""
    model = read_hyperparameters(shape_of(replace(TINY, block_count=4)))
    assert model.layers == 4 and len(model.window_pattern) == 4
