"""LoRA adapters: checked by their header, loaded beside a model, and laid over its contexts.

Source: llama.cpp src/llama-adapter.cpp, `llama_adapter_lora_init_impl`.
"""

import ctypes
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from qwenctl.errors import FileMissing, LoadFailed, Malformed
from qwenctl.model.gguf import read_header
from qwenctl.runtime.bindings import Library
from qwenctl.runtime.engine import Adapter


def check_adapter(adapter: Adapter, architecture: str) -> None:
    """Raises: FileMissing; LoadFailed for a file that is no LoRA adapter of such a model."""
    path = Path(adapter.path)
    if not isfinite(adapter.scale):
        raise LoadFailed(f"the scale of the adapter `{path.name}` is not a number")
    try:
        with path.open("rb") as file:
            metadata = read_header(file).metadata
    except (FileNotFoundError, IsADirectoryError, ValueError) as error:  # ValueError: a zero byte in it
        raise FileMissing(f"there is no adapter `{path}`") from error
    except OSError as error:
        raise LoadFailed(f"the adapter `{path}` cannot be read: {error.strerror}") from error
    except Malformed as error:
        raise LoadFailed(
            f"`{path.name}` is no adapter: {error.message}",
            hint="llama.cpp's `convert_lora_to_gguf.py` makes a GGUF of a PEFT adapter",
        ) from error
    kind = metadata.get("general.type")
    if kind != "adapter" or metadata.get("adapter.type") != "lora":
        raise LoadFailed(
            f"`{path.name}` is no LoRA adapter: its `general.type` is `{kind or 'absent'}`",
            hint="a whole model is run by its own name, not laid over another",
        )
    base = metadata.get("general.architecture")
    if base != architecture:
        raise LoadFailed(
            f"the adapter `{path.name}` was made for a `{base}` model, this one is `{architecture}`",
            hint="use it with the model that it was trained on",
        )


class LoadedAdapters:
    """Adapters in the memory of a model, which frees them when it is freed."""

    def __init__(self, library: Library, model: Any, adapters: Sequence[Adapter]) -> None:
        """Raises: LoadFailed with llama.cpp's reason; MemoryShort."""
        self._api = library.api
        pointers = []
        for adapter in adapters:
            library.log.clear()
            pointer = self._api.llama_adapter_lora_init(model, str(adapter.path).encode())
            if not pointer:
                raise library.log.failure(
                    f"llama.cpp refused the adapter `{Path(adapter.path).name}`",
                    hint="use it with the model that it was trained on",
                )
            pointers.append(pointer)
        count = len(pointers)
        self._count = count
        self._pointers = (self._api.llama_adapter_lora_p_ctypes * count)(*pointers)
        self._scales = (ctypes.c_float * count)(*(adapter.scale for adapter in adapters))

    def lay_over(self, context: Any) -> None:
        """Makes `context` compute with them."""
        if self._count:
            self._api.llama_set_adapters_lora(context, self._pointers, self._count, self._scales)
