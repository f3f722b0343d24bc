"""What a model takes of which memory, computed as llama.cpp computes it: pure arithmetic on a header.

    configuration   how a model is to be loaded, and llama.cpp's normalisation of it
    hyperparameters what the graph needs to know of a model
    tensor, graph   a computation graph of ggml tensors, and llama.cpp's building blocks of one
    architectures   the graph of each family of models
    placement       which layer, weight and cache lies on which device
    scheduler       ggml's scheduler: each operation to a backend, copies between them
    allocator       ggml's graph allocator: how large each backend's compute buffer becomes
    figures         bytes by place, and who said so
    compute         the compute buffers: graphs, scheduled and allocated
    estimate        all of it: header and configuration → bytes for each device
    plan            bytes and a machine → how to load the model there, or why not

Everything follows the pinned llama.cpp (0c1e5709, in llama-cpp-python 0.3.36); a test fails when they
drift apart.
"""

from typing import Final

PINNED: Final = "0.3.36"
"""The llama-cpp-python that the arithmetic follows. `tests/runtime/test_exactness.py` proves it."""
