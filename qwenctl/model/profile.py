"""Machine profiles: a machine written down, to ask what would fit there.

    name: gaming PC
    ram: {total: 32GiB, available: 28GiB}      # or: ram: 32GiB
    cores: 8
    gpus:                                      # or: gpus: [12GiB, 8GiB]
      - {description: RTX 4070, total: 12GiB, free: 11.2GiB, overhead: 300MiB}

Sizes are texts as `qwenctl.units.parse_bytes` reads them, or numbers of bytes.
"""

import difflib
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from qwenctl.errors import Malformed, UsageError
from qwenctl.model.host import CUDA_CONTEXT_BYTES, DEVICE_NAMES, Backend, Gpu, Host, Ram
from qwenctl.model.strict_yaml import parse_yaml
from qwenctl.units import parse_bytes

PROFILE_LIMIT: Final = 64 * 1024
"""Bytes of a profile that are read."""
GPU_LIMIT: Final = 16
"""GPUs of a machine. Source: `GGML_CUDA_MAX_DEVICES`, ggml-cuda.h of llama.cpp 0c1e5709."""
SIZE_LIMIT: Final = 64 * 1024**4
"""Bytes of any memory in a profile."""
CORE_LIMIT: Final = 4096
"""Cores of a machine."""
_TEXT_LIMIT: Final = 100

_Size = int | str
_Text = Annotated[str, msgspec.Meta(max_length=_TEXT_LIMIT)]


class _RamForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    total: _Size
    available: _Size | None = None


class _GpuForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    total: _Size
    free: _Size | None = None
    overhead: _Size | None = None
    name: _Text | None = None
    description: _Text = ""
    backend: Backend = "cuda"
    shares_ram: bool | None = None
    id: _Text | None = None


class _HostForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    ram: _RamForm | _Size
    name: _Text = "unnamed machine"
    cores: Annotated[int, msgspec.Meta(ge=1, le=CORE_LIMIT)] = 1
    gpus: Annotated[tuple[_GpuForm | _Size, ...], msgspec.Meta(max_length=GPU_LIMIT)] | None = None


def parse_host_profile(raw: bytes, where: str) -> Host:
    """The machine that a YAML profile describes; `simulated`, for nothing may be loaded because of it.

    What is available or free defaults to the total, the backend to `cuda`, names to those of its devices in
    order (`CUDA0`, …), the overhead to a typical CUDA context, and to nothing for other backends.

    Raises: Malformed when it is not YAML, UsageError when it is no machine; both name `where` and the place.
    """
    if len(raw) > PROFILE_LIMIT:
        raise Malformed(f"machine profile `{where}` has more than {PROFILE_LIMIT} bytes")
    try:
        form = _read_form(parse_yaml(raw))
        return Host(
            ram=_ram(form.ram),
            gpus=_gpus(form.gpus or ()),
            cores=form.cores,
            name=_printable(form.name, "name"),
            source="a machine profile",
            simulated=True,
        )
    except Malformed as error:
        raise Malformed(f"machine profile `{where}`: {error.message}") from error
    except msgspec.ValidationError as error:
        problem = _shown(error, limit=200)
        raise UsageError(f"machine profile `{where}`: {problem[:1].lower()}{problem[1:]}") from error
    except UsageError as error:
        raise UsageError(f"machine profile `{where}`: {error.message}", hint=error.hint) from error


def _read_form(document: object) -> _HostForm:
    if not isinstance(document, dict):
        raise UsageError("it is not a mapping", hint="write `ram: 32GiB` and `gpus: [12GiB]`")
    _check_keys(document, _HostForm, "the profile")
    _check_keys(document.get("ram"), _RamForm, "`ram`")
    gpus = document.get("gpus")
    for index, gpu in enumerate(gpus if isinstance(gpus, list) else ()):
        _check_keys(gpu, _GpuForm, f"`gpus[{index}]`")
    return msgspec.convert(document, _HostForm)


def _check_keys(document: object, form: type[msgspec.Struct], where: str) -> None:
    """Every key is one of the form's: msgspec would refuse it too, but does not know what was meant."""
    for key in document if isinstance(document, dict) else ():
        if key in form.__struct_fields__:
            continue
        near = difflib.get_close_matches(_shown(key), form.__struct_fields__, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(form.__struct_fields__)}"
        raise UsageError(f"{where} has the unknown key `{_shown(key)}`", hint=hint)


def _ram(form: _RamForm | _Size) -> Ram:
    form = form if isinstance(form, _RamForm) else _RamForm(form)
    total = _size(form.total, "ram", least=1)
    available = total if form.available is None else _size(form.available, "ram.available")
    _check_at_most(available, total, "ram.available")
    return Ram(total_bytes=total, available_bytes=available)


def _gpus(forms: tuple[_GpuForm | _Size, ...]) -> tuple[Gpu, ...]:
    whole = [form if isinstance(form, _GpuForm) else _GpuForm(total=form) for form in forms]
    gpus = tuple(
        _gpu(form, name, f"gpus[{index}]")
        for index, (form, name) in enumerate(zip(whole, _names(whole), strict=True))
    )
    for index, gpu in enumerate(gpus):
        if gpu.name in {other.name for other in gpus[:index]}:
            raise UsageError(f"`gpus[{index}]` has the name `{gpu.name}`, which another GPU has")
    return gpus


def _names(forms: list[_GpuForm]) -> Iterator[str]:
    """ggml's names: those of a backend are counted from zero."""
    counts: dict[Backend, int] = {}
    for form in forms:
        number = counts.get(form.backend, 0)
        counts[form.backend] = number + 1
        yield form.name or f"{DEVICE_NAMES.get(form.backend, 'GPU')}{number}"


def _gpu(form: _GpuForm, name: str, where: str) -> Gpu:
    total = _size(form.total, f"{where}.total", least=1)
    free = total if form.free is None else _size(form.free, f"{where}.free")
    _check_at_most(free, total, f"{where}.free")
    typical = CUDA_CONTEXT_BYTES if form.backend == "cuda" else 0
    overhead = min(typical, total) if form.overhead is None else _size(form.overhead, f"{where}.overhead")
    _check_at_most(overhead, total, f"{where}.overhead")
    return Gpu(
        name=_printable(name, f"{where}.name"),
        backend=form.backend,
        total_bytes=total,
        free_bytes=free,
        description=_printable(form.description, f"{where}.description"),
        overhead_bytes=overhead,
        shares_ram=form.backend == "metal" if form.shares_ram is None else form.shares_ram,
        id=None if form.id is None else _printable(form.id, f"{where}.id"),
    )


def _size(value: _Size, where: str, least: int = 0) -> int:
    try:
        size = parse_bytes(value) if isinstance(value, str) else value
    except UsageError as error:
        raise UsageError(f"`{where}`: `{_shown(value)}` is not a size", hint=error.hint) from error
    if not least <= size <= SIZE_LIMIT:
        raise UsageError(f"`{where}`: {_shown(value)} is not a size that a machine has")
    return size


def _check_at_most(size: int, total: int, where: str) -> None:
    if size > total:
        raise UsageError(f"`{where}` is more than the total: {size} of {total} bytes")


def _printable(text: str, where: str) -> str:
    if not text.isprintable():
        raise UsageError(f"`{where}` has characters that cannot be shown")
    return text


def _shown(value: object, limit: int = 40) -> str:
    """The beginning of what was found, without characters that a terminal would obey."""
    try:
        text = str(value)
    except ValueError:  # a number of thousands of digits, written in hexadecimal
        text = "a number"
    return "".join(character if character.isprintable() else "?" for character in text[:limit])
