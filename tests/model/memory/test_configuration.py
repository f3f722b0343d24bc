"""Configurations: what is refused, and how llama.cpp rounds what is not."""

from typing import Any

import pytest

from qwenctl.errors import UsageError
from qwenctl.model.memory.configuration import Configuration, Sizes, normalise


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"context_tokens": 0}, "context of 0"),
        ({"context_tokens": 1 << 25}, "context of 33554432"),
        ({"slots": 0}, "slots of 0"),
        ({"slots": 257}, "slots of 257"),
        ({"slots": 4, "batch_tokens": 3}, "batch of 3"),
        ({"ubatch_tokens": 0}, "micro-batch of 0"),
        ({"gpu_layers": -2}, "gpu layers of -2"),
        ({"flash_attention": "off", "kv_type": "q8_0"}, "needs flash attention"),
        ({"tensor_split": (1.0, -1.0)}, "shares"),
        ({"tensor_split": (float("nan"),)}, "shares"),
        ({"tensor_split": (float("inf"),)}, "shares"),
    ],
)
def test_what_llama_cpp_refuses_is_refused(refused: dict[str, Any], message: str) -> None:
    """A usage error that names the value."""
    with pytest.raises(UsageError, match=message):
        Configuration(**{"context_tokens": 512, **refused})


@pytest.mark.parametrize(
    ("asked", "sizes"),
    [
        # context, cells, streams, tokens, outputs, sequences
        ({"context_tokens": 512}, (512, 512, 1, 512, 1, 1)),
        ({"context_tokens": 1}, (256, 256, 1, 1, 1, 1)),
        ({"context_tokens": 5000}, (5120, 5120, 1, 512, 1, 1)),
        ({"context_tokens": 1000, "slots": 3}, (3072, 1024, 3, 513, 3, 3)),
        ({"context_tokens": 1000, "slots": 3, "unified": True}, (1024, 1024, 1, 513, 3, 3)),
        ({"context_tokens": 100}, (256, 256, 1, 100, 1, 1)),
        ({"context_tokens": 4096, "outputs": 0}, (4096, 4096, 1, 512, 512, 1)),
        ({"context_tokens": 4096, "ubatch_tokens": 64, "outputs": 0}, (4096, 4096, 1, 64, 64, 1)),
        ({"context_tokens": 4096, "batch_tokens": 128}, (4096, 4096, 1, 128, 1, 1)),
        ({"context_tokens": 4096, "slots": 4, "ubatch_tokens": 2}, (16384, 4096, 4, 4, 2, 4)),
    ],
)
def test_sizes_are_rounded_as_in_llama_cpp(asked: dict[str, Any], sizes: tuple[int, ...]) -> None:
    """Contexts to 256 for each stream, tokens to whole sequences (llama-context.cpp)."""
    assert normalise(Configuration(**asked)) == Sizes(*sizes)
