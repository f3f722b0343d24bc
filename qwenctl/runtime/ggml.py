"""The devices that ggml can compute on, as its backends report them."""

import ctypes
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from qwenctl.runtime.bindings import library

DeviceType = Literal["cpu", "gpu", "igpu", "accel", "meta"]

# Source: ggml-backend.h, enum ggml_backend_dev_type (llama.cpp 0c1e5709).
_TYPES: Final[tuple[DeviceType, ...]] = ("cpu", "gpu", "igpu", "accel", "meta")


@dataclass(frozen=True, slots=True)
class GgmlDevice:
    """A device of this process.

    `free_bytes` is what its driver says now; of the type `cpu` it is not to be trusted: ggml answers with
    all the memory there is. `device_id` is a PCI address such as `0000:c1:00.0`, where it is known. `handle`
    is the `ggml_backend_dev_t`, valid as long as the process.
    """

    index: int
    name: str
    description: str
    type: DeviceType
    free_bytes: int
    total_bytes: int
    device_id: str | None
    handle: int


def ggml_devices() -> tuple[GgmlDevice, ...]:
    """Every device, in ggml's order, which is llama.cpp's too.

    Asking a CUDA device makes a context on it, which costs this process 100 to 550 MiB of the card for good:
    ask in a process that computes on it anyway, or ends soon.

    Raises: LoadFailed when llama-cpp-python is missing or broken.
    """
    opened = library()
    count = opened.ggml("ggml_backend_dev_count", ctypes.c_size_t)
    get = opened.ggml("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    fill = opened.ggml("ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Properties))
    devices = []
    for index in range(count()):
        properties = _Properties()
        handle = get(index)
        fill(handle, ctypes.byref(properties))
        devices.append(_device(index, handle, properties))
    return tuple(devices)


class _Properties(ctypes.Structure):
    """Source: ggml-backend.h, struct ggml_backend_dev_props with its five flags (llama.cpp 0c1e5709)."""

    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("memory_free", ctypes.c_size_t),
        ("memory_total", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("device_id", ctypes.c_char_p),
        ("capabilities", ctypes.c_bool * 5),
    ]


def _device(index: int, handle: int, properties: _Properties) -> GgmlDevice:
    identity = properties.device_id
    return GgmlDevice(
        index=index,
        name=properties.name.decode(errors="replace"),
        description=properties.description.decode(errors="replace"),
        type=_TYPES[properties.type],
        free_bytes=properties.memory_free,
        total_bytes=properties.memory_total,
        device_id=None if identity is None else identity.decode(errors="replace"),
        handle=handle,
    )
