"""llama.cpp's own account of the memory of an open context, by buffer type.

The function is exported but not in the bindings: it is C++ and returns a `std::map`, which is walked here as
libstdc++ lays it out. Elsewhere (macOS has libc++) there is no account, and callers go without.

Source: llama.cpp src/llama-ext.h, `llama_get_memory_breakdown`; libstdc++ bits/stl_tree.h, `_Rb_tree_node`.
"""

import ctypes
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from qwenctl.model.memory.configuration import Configuration, logit_rows
from qwenctl.model.memory.figures import DeviceMemory, Estimate, HostMemory, Method
from qwenctl.runtime.bindings import Library
from qwenctl.runtime.ggml import GgmlDevice, ggml_devices

_SYMBOL: Final = "_Z26llama_get_memory_breakdownPK13llama_context"
_NODES_AT_MOST: Final = 64  # buffer types; a machine has a handful
_GPU_TYPES: Final = ("gpu", "igpu")
_LOGIT_BYTES: Final = 4


class _Map(ctypes.Structure):
    """`std::map`: comparator and header (colour, root, leftmost, rightmost), then the count."""

    _fields_: ClassVar = [
        ("comparator", ctypes.c_void_p),
        ("colour", ctypes.c_size_t),
        ("root", ctypes.c_void_p),
        ("leftmost", ctypes.c_void_p),
        ("rightmost", ctypes.c_void_p),
        ("count", ctypes.c_size_t),
    ]


class _Node(ctypes.Structure):
    """A node: its place in the tree, the buffer type, `llama_memory_breakdown_data`."""

    _fields_: ClassVar = [
        ("colour", ctypes.c_size_t),
        ("parent", ctypes.c_void_p),
        ("left", ctypes.c_void_p),
        ("right", ctypes.c_void_p),
        ("buffer_type", ctypes.c_void_p),
        ("model", ctypes.c_size_t),
        ("context", ctypes.c_size_t),
        ("compute", ctypes.c_size_t),
    ]


@dataclass(frozen=True, slots=True)
class BufferMemory:
    """Bytes in buffers of one type. `device` is the GPU whose memory it is; None is RAM."""

    device: str | None
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int


def read_breakdown(library: Library, context: int) -> list[BufferMemory] | None:
    """What the context and its model hold; None where this platform's llama.cpp does not say."""
    if sys.platform != "linux":
        return None
    try:
        breakdown = ctypes.CFUNCTYPE(_Map, ctypes.c_void_p)((_SYMBOL, library.api._lib))
    except AttributeError:
        return None
    found = breakdown(context)
    if not 0 < found.count <= _NODES_AT_MOST:
        return None
    gpus = {device.handle: device for device in ggml_devices() if device.type in _GPU_TYPES}
    return [_memory(library, node, gpus) for node in _walk(found.root)]


def read_memory(
    library: Library, context: Any, configuration: Configuration, layers: int, vocabulary: int, method: Method
) -> Estimate | None:
    """The account in the form of an estimate, to stand beside one.

    `layers` counts the output. The logits' buffer is in no account of llama.cpp's; its size is known.
    """
    buffers = read_breakdown(library, context)
    if buffers is None:
        return None
    names = list(dict.fromkeys(item.device for item in buffers if item.device is not None))
    # see the fault in `runtime.measure`
    exact = method == "loaded" or len(names) < 2 or 0 <= configuration.gpu_layers < layers
    wanted = layers if configuration.gpu_layers < 0 else min(layers, configuration.gpu_layers)
    return Estimate(
        method=method,
        devices=tuple(DeviceMemory(name=name, **_sums(buffers, name)) for name in sorted(names)),
        host=HostMemory(
            **_sums(buffers, None),
            output_bytes=vocabulary * _LOGIT_BYTES * logit_rows(configuration),
        ),
        gpu_layers=wanted if names else 0,
        layers=layers,
        flash_attention=configuration.flash_attention != "off" and not library.log.has("set to disabled"),
        # The second is llama.cpp's way out where a pipeline's buffers did not fit.
        pipeline=library.log.has("pipeline parallelism enabled")
        and not library.log.has("retrying without pipeline parallelism"),
        exact=exact,
    )


def _sums(buffers: list[BufferMemory], device: str | None) -> dict[str, int]:
    own = [item for item in buffers if item.device == device]
    return {
        "weights_bytes": sum(item.weights_bytes for item in own),
        "kv_cache_bytes": sum(item.kv_cache_bytes for item in own),
        "compute_bytes": sum(item.compute_bytes for item in own),
    }


def _walk(address: int | None) -> Iterator[_Node]:
    if not address:
        return
    node = _Node.from_address(address)
    yield from _walk(node.left)
    yield node
    yield from _walk(node.right)


def _memory(library: Library, node: _Node, gpus: dict[int, GgmlDevice]) -> BufferMemory:
    is_host = library.ggml("ggml_backend_buft_is_host", ctypes.c_bool, ctypes.c_void_p)
    device_of = library.ggml("ggml_backend_buft_get_device", ctypes.c_void_p, ctypes.c_void_p)
    kind = node.buffer_type
    device = None if is_host(kind) else gpus.get(device_of(kind) or 0)
    return BufferMemory(device.name if device else None, node.model, node.context, node.compute)
