"""qwenctl: pull language models from OCI registries, keep them verified, run them on llama.cpp.

The packages, lowest layer first; imports point only downwards (`tests/test_architecture.py`):

    L0  errors, units, settings
    L1  oci (references, digests, manifests, the Target protocol), model (GGUF, artifacts, cards)
    L2  store (disk), remote (network), runtime (llama.cpp)
    L3  flows (data paths), registry (embedded server), runner (background service), api, chat
    L4  cli
"""

__version__ = "0.1.0"
