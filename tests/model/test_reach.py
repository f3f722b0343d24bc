"""How long a context is taken, by the numbers of the model cards."""

from dataclasses import replace

import pytest

from qwenctl.model.gguf import Value
from qwenctl.model.reach import Reach, Yarn
from qwenctl.model.shape import Shape
from tests.model.memory.memory_builders import TINY, changed, known_shape, shape_of


def plain(architecture: str, trained: int) -> Reach:
    """A file without a word on scaling."""
    return Reach.read(architecture, trained, None, 0.0, 0)


def test_qwen25_reaches_128k() -> None:
    """Its card: 131,072 tokens with factor 4.0 over 32,768; its files say 32,768."""
    reach = Reach.of(changed(known_shape("qwen2.5-7b"), {"qwen2.context_length": 32_768}))
    assert (reach.trained_tokens, reach.most_tokens) == (32_768, 131_072)
    assert reach.yarn(131_072) == Yarn(32_768, 4.0)
    assert Yarn(32_768, 4.0).frequency_scale == 0.25


def test_the_factor_is_what_the_context_needs() -> None:
    """Qwen3's card: for 65,536 tokens the factor is better 2.0."""
    assert plain("qwen2", 32_768).yarn(65_536) == Yarn(32_768, 2.0)


def test_up_to_the_trained_context_nothing_is_stretched() -> None:
    """YaRN is for all texts or none, so it is not there without need."""
    reach = plain("qwen2", 32_768)
    assert reach.yarn(32_768) is None and reach.note(32_768) is None
    assert "32768" in (reach.note(32_769) or "") and "YaRN" in (reach.note(32_769) or "")


def test_qwen3_counts_from_its_trained_positions() -> None:
    """Its files say 40,960, of which 32,768 were trained; its card reaches 131,072."""
    reach = plain("qwen3", 40_960)
    assert reach.most_tokens == 131_072
    assert reach.yarn(65_536) == Yarn(32_768, 2.0)
    assert reach.yarn(40_960) is None


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen35"])
def test_other_makers_do_not_say_so(architecture: str) -> None:
    """There the trained context is the end, and the refusal has the numbers."""
    reach = plain(architecture, 8192)
    assert reach.takes(8192) and not reach.takes(8193)
    assert reach.refusal(8193) == "a context of 8193 tokens does not suit a model trained with 8192"


def test_a_refusal_says_how_far_it_could_be_stretched() -> None:
    """Both numbers, beside the one that was asked for."""
    assert "200000" in plain("qwen2", 32_768).refusal(200_000)
    assert "32768 and stretched to 131072" in plain("qwen2", 32_768).refusal(200_000)


def test_a_file_that_stretches_by_itself_is_left_alone() -> None:
    """Its factor over its original context, and no setting of ours."""
    shape = changed(shape_of(TINY), {"qwen2.context_length": 2048, **_scaling("yarn", 4.0, 1024)})
    assert Reach.of(shape) == Reach(trained_tokens=2048, most_tokens=4096)
    assert Reach.read("qwen2", 2048, "linear", 2.0, 0).most_tokens == 2048


def test_nothing_takes_no_tokens() -> None:
    """A context of none, or less, is refused by every model."""
    assert not plain("qwen2", 1024).takes(0) and not plain("qwen2", 1024).takes(-1)


def test_a_header_without_a_context_reaches_nowhere() -> None:
    """Its planner says so before."""
    shape = shape_of(TINY)
    without = {key: value for key, value in shape.header.metadata.items() if "context_length" not in key}
    assert Reach.of(Shape(replace(shape.header, metadata=without), "llama", shape.tensors)).most_tokens == 0


def _scaling(kind: str, factor: float, original: int) -> dict[str, Value]:
    key = "qwen2.rope.scaling"
    return {f"{key}.type": kind, f"{key}.factor": factor, f"{key}.original_context_length": original}
