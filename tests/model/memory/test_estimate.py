"""The estimate as a whole: sums that anyone can check, GPUs that are left out, reasons for no figure.

`tests/runtime/test_exactness.py` compares the figures with llama.cpp's.
"""

from dataclasses import replace
from typing import Any

import pytest

from qwenctl.model.gguf import Array, Tensor, Value, ValueType
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.estimate import Estimator, estimate
from qwenctl.model.memory.figures import DeviceMemory, HostMemory
from qwenctl.model.memory.hyperparameters import Unknown
from qwenctl.model.shape import Shape
from tests.model.memory.memory_builders import TINY, changed, gpus, known_shape, retensored, shape_of

MIB = 1 << 20


def of_context(tokens: int = 4096, **further: Any) -> Configuration:
    """A configuration with this context."""
    return Configuration(context_tokens=tokens, **further)


def test_the_kv_cache_of_a_7b_is_known() -> None:
    """28 layers, 4 heads of 128 for K and V, 2 bytes: 56 KiB a token."""
    made = estimate(known_shape("qwen2.5-7b"), of_context(32_768), gpus(24))
    assert made.devices[0].kv_cache_bytes == 28 * 2 * 4 * 128 * 2 * 32_768
    assert made.host.kv_cache_bytes == 0


def test_figures_of_a_real_card_are_reproduced() -> None:
    """Qwen2.5-7B Q4_K_M, 4096 tokens, 512 outputs, all layers on one GPU: llama-server's log on a CUDA card
    said 4168.09 MiB of weights, 224 of cache, 304 for computing."""
    made = estimate(known_shape("qwen2.5-7b"), of_context(outputs=0), gpus(24))
    (card,) = made.devices
    assert round(card.weights_bytes / MIB, 2) == 4168.09
    assert round(card.kv_cache_bytes / MIB, 2) == 224
    assert round(card.compute_bytes / MIB, 2) == 304


def test_an_estimate_adds_up() -> None:
    """The total is what all devices and the host hold."""
    made = estimate(shape_of(TINY), of_context(gpu_layers=2), gpus(8, 8))
    places: list[DeviceMemory | HostMemory] = [*made.devices, made.host]
    parts = [(place.weights_bytes, place.kv_cache_bytes, place.compute_bytes) for place in places]
    assert made.total_bytes == sum(map(sum, parts)) + made.host.output_bytes
    assert (made.gpu_layers, made.layers) == (2, 4)


def test_the_logits_of_each_slot_are_in_ram() -> None:
    """One row of the vocabulary in 32 bits for each."""
    made = estimate(shape_of(TINY), of_context(slots=3), gpus(8))
    assert made.host.output_bytes == 3 * 1000 * 4


def test_without_gpu_layers_no_gpu_is_touched() -> None:
    """The engine hides the GPUs then; the figures are those of the CPU alone."""
    shape, configuration = shape_of(TINY), of_context(gpu_layers=0, tensor_split=(1.0, 2.0))
    with_gpus, without = (estimate(shape, configuration, some) for some in (gpus(8, 8), ()))
    assert [device.total_bytes for device in with_gpus.devices] == [0, 0]
    assert with_gpus.host == without.host
    assert not with_gpus.pipeline and with_gpus.gpu_layers == 0


def test_several_gpus_with_all_layers_are_a_pipeline() -> None:
    """It takes more memory than without, which is what llama.cpp falls back to."""
    estimator = Estimator(shape_of(TINY), gpus(8, 8))
    pipeline, plain = (estimator.estimate(of_context(), pipeline=on) for on in (True, False))
    assert pipeline.pipeline and not plain.pipeline
    assert pipeline.total_bytes > plain.total_bytes
    assert not estimator.estimate(of_context(gpu_layers=3)).pipeline


def test_gpus_share_by_their_free_memory() -> None:
    """Where no shares are given, or all are 0; and by the shares where there are some."""
    shape = known_shape("qwen2.5-0.5b")
    by_memory = estimate(shape, of_context(), gpus(3, 1))
    assert estimate(shape, of_context(tensor_split=(0.0, 0.0)), gpus(3, 1)) == by_memory
    assert estimate(shape, of_context(tensor_split=(3.0, 1.0)), gpus(8, 8)).devices == by_memory.devices


def test_auto_flash_attention_goes_off_where_a_gpu_has_no_kernel() -> None:
    """Heads of 32 on CUDA; a quantized cache insists on it, and Vulkan is believed to have all kernels."""
    shape = shape_of(replace(TINY, head_count=4, head_count_kv=2, key_length=32, value_length=32))
    assert not estimate(shape, of_context(), gpus(8)).flash_attention
    assert estimate(shape, of_context(kv_type="q8_0"), gpus(8)).flash_attention
    assert estimate(shape, of_context(), gpus(8, backend="vulkan")).flash_attention
    assert estimate(shape, of_context(), ()).flash_attention


def test_exact_is_said_of_dense_qwen_alone() -> None:
    """Other families and other backends than CUDA were not proved on hardware."""
    assert estimate(known_shape("qwen3-0.6b"), of_context(), gpus(8)).exact
    assert not estimate(known_shape("llama-3.2-1b"), of_context(), gpus(8)).exact
    assert not estimate(known_shape("qwen3-0.6b"), of_context(), gpus(8, backend="metal")).exact


def per_layer(*values: int) -> Array:
    """An array of whole numbers."""
    return Array(ValueType.INT32, len(values), values)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"general.architecture": "mamba"}, "no usable `mamba.block_count`"),
        ({"qwen2.block_count": None}, "no usable `qwen2.block_count`"),
        ({"qwen2.block_count": 0}, "no usable `qwen2.block_count`"),
        ({"qwen2.block_count": 513}, "no usable `qwen2.block_count`"),
        ({"qwen2.block_count": 1 << 20}, "no usable `qwen2.block_count`"),
        ({"qwen2.block_count": "three"}, "no usable `qwen2.block_count`"),
        ({"qwen2.block_count": 4}, "no tensor `blk.3.attn_norm.weight`"),
        ({"qwen2.block_count": 2}, "tensor `blk.2."),
        ({"qwen2.attention.head_count": 0}, "no usable `attention.head_count`"),
        ({"qwen2.attention.head_count_kv": per_layer(1, 2, 1)}, "differs from layer to layer"),
        ({"qwen2.attention.head_count_kv": 2}, "tensor `blk.0.attn_k.weight` is 128 x 64"),
        ({"qwen2.embedding_length": 0}, "no usable `qwen2.embedding_length`"),
        ({"qwen2.attention.key_length": 0}, "no usable `qwen2.attention.key_length`"),
        ({"qwen2.attention.value_length": -64}, "no usable `qwen2.attention.value_length`"),
        ({"qwen2.expert_count": 4, "qwen2.expert_used_count": 2}, "models with experts are not known"),
        ({"qwen2.expert_count": 4, "qwen2.expert_used_count": 5}, "no usable `qwen2.expert_used_count`"),
    ],
)
def test_a_strange_header_has_a_reason(metadata: dict[str, Value | None], reason: str) -> None:
    """No figure, no other error."""
    with pytest.raises(Unknown, match=reason):
        Estimator(changed(shape_of(TINY), metadata), ())


def fused(shape: Shape) -> Shape:
    """Q, K and V of the first layer in one tensor."""
    return retensored(shape, Tensor("blk.0.attn_qkv.weight", (128, 256), 1, 0), without="blk.0.attn_q.weight")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (fused(shape_of(TINY)), "tensor `blk.0.attn_qkv.weight` is not one that a plain `qwen2` model has"),
        (retensored(shape_of(TINY), without="token_embd.weight"), "the file has no `token_embd.weight`"),
        (retensored(shape_of(TINY), without="blk.1.ffn_up.weight"), "no tensor `blk.1.ffn_up.weight`"),
        (retensored(shape_of(TINY), without="output_norm.weight"), "no tensor `output_norm.weight`"),
        (retensored(shape_of(TINY), Tensor("blk.3.attn_q.weight", (128, 128), 1, 0)), "`blk.3.attn_q"),
        (retensored(shape_of(TINY), Tensor("blk.00.attn_q.weight", (128, 128), 1, 0)), "`blk.00.attn_q"),
        (retensored(shape_of(TINY), Tensor("v.patch.weight", (128,), 1, 0)), "tensor `v.patch.weight`"),
        (retensored(shape_of(TINY), Tensor("output_norm.weight", (), 0, 0)), "`output_norm.weight` is "),
        (retensored(shape_of(TINY), Tensor("blk.0.ffn_up.weight", (128, 0), 1, 0)), "128 x 0"),
        (retensored(shape_of(TINY), Tensor("blk.0.attn_q.weight", (128, 64), 1, 0)), "128 x 64"),
    ],
)
def test_strange_tensors_have_a_reason(shape: Shape, reason: str) -> None:
    """Missing ones, unknown ones, ones of another shape."""
    with pytest.raises(Unknown, match=reason):
        Estimator(shape, ())


def test_an_unknown_architecture_has_a_reason() -> None:
    """The message lists those that are known."""
    shape = shape_of(TINY)
    renamed = {key.replace("qwen2.", "mamba."): value for key, value in shape.header.metadata.items()}
    strange = changed(shape, {**renamed, "general.architecture": "mamba"})
    with pytest.raises(Unknown, match="the graph of `mamba` models is not known here; those of gemma2, "):
        Estimator(strange, ())


def test_shares_must_match_the_gpus() -> None:
    """As many as there are GPUs."""
    with pytest.raises(Unknown, match="2 shares for 1 GPUs"):
        estimate(shape_of(TINY), of_context(tensor_split=(1.0, 1.0)), gpus(8))


def test_a_quantized_cache_needs_heads_of_whole_blocks() -> None:
    """llama.cpp refuses the context: heads of 80 are no multiple of 32."""
    outline = replace(TINY, embedding_length=160, key_length=80, value_length=80)
    with pytest.raises(Unknown, match="multiples of 32"):
        estimate(shape_of(outline), of_context(kv_type="q8_0"), ())
