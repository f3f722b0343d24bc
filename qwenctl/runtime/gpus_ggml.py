"""llama.cpp's own list of devices, asked in a short-lived process.

Only that list says which GPUs can be used at all, under which names and in which order. Asking costs a CUDA
context on every card for as long as the asking process lives, so that process is never this one.

    python -P -m qwenctl.runtime.gpus_ggml [--backend LIBRARY]…     prints one line of JSON
"""

import importlib.util
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from qwenctl.errors import EngineError, QwenctlError
from qwenctl.model.host import backend_of

# -P: a directory that somebody happens to stand in must not lend its modules.
ASKING_ARGV: Final = (sys.executable, "-P", "-m", "qwenctl.runtime.gpus_ggml")
ASKING_SECONDS: Final = 60.0
"""The first contact with several cards whose driver sleeps takes seconds for each."""

# Source: ggml/src/CMakeLists.txt, llama.cpp 0c1e5709. These drive no GPU of this machine; `rpc` finds devices
# only when it is given servers, which is never done here.
_NO_GPU: Final = ("base", "cpu", "blas", "zdnn", "zendnn", "rpc")
_SUFFIXES: Final = (".so", ".dylib", ".dll")


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that ggml has. `device_id` is a PCI address in lower case where the backend knows it.

    `free_bytes` was measured with a context of the asking process on the card. A CPU's numbers mean nothing.
    """

    name: str
    description: str
    type: Literal["cpu", "gpu", "igpu", "accel", "meta"]
    free_bytes: int
    total_bytes: int
    device_id: str | None = None


def built_backends(environ: Mapping[str, str]) -> frozenset[str]:
    """The GPU backends that the installed llama.cpp was built with: `cuda`, `hip`, `vulkan`, `metal`, …

    Each is a library beside llama.cpp's; nothing is loaded to find out. Source: llama_cpp.py of
    llama-cpp-python 0.3.36 for the directory and the variable that moves it.
    """
    moved = environ.get("LLAMA_CPP_LIB_PATH")
    if moved is not None:
        return backends_in(Path(moved))
    spec = importlib.util.find_spec("llama_cpp")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return backends_in(Path(places[0]) / "lib") if places else frozenset()


def backends_in(directory: Path) -> frozenset[str]:
    """The GPU backends among the libraries of a directory; empty where there is none."""
    try:
        return backends_among(list(directory.iterdir()))
    except OSError:
        return frozenset()


def backends_among(paths: Sequence[Path]) -> frozenset[str]:
    """The GPU backends that files are, by their names: `libggml-vulkan.so.0` is `vulkan`."""
    names = [path.name.removeprefix("lib") for path in paths]
    found = (
        name.removeprefix("ggml-").partition(".")[0]
        for name in names
        if name.startswith("ggml-") and any(suffix in name for suffix in _SUFFIXES)
    )
    return frozenset(backend for backend in found if backend.partition("-")[0] not in _NO_GPU)


def usable_devices(devices: Sequence[Device]) -> tuple[Device, ...]:
    """The devices that llama.cpp spreads a model over when it is told none, in its order.

    A card that two backends see counts once, under the first of them; integrated GPUs count only without any
    other, and then those of one backend. Source: src/llama.cpp, `llama_prepare_model_devices`, llama.cpp
    0c1e5709; remote (RPC) devices, which would come first, are never added here.
    """
    gpus: list[Device] = []
    integrated: list[Device] = []
    for device in devices:
        if device.type == "gpu" and device.device_id not in {gpu.device_id for gpu in gpus} - {None}:
            gpus.append(device)
        elif device.type == "igpu" and (not integrated or _same_backend(device, integrated[-1])):
            integrated.append(device)
    return tuple(gpus or integrated)


def ask_llama(
    backends: Sequence[Path] = (), argv: Sequence[str] = ASKING_ARGV, seconds: float = ASKING_SECONDS
) -> tuple[Device, ...]:
    """Every device that llama.cpp has in this environment, with the further ggml libraries `backends`.

    Raises: EngineError when the asking process fails, crashes or takes longer than `seconds`.
    """
    options = [option for path in backends for option in ("--backend", str(path))]
    try:
        done = subprocess.run(
            [*argv, *options], stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"llama.cpp did not list its devices within {seconds:.0f} seconds") from error
    except OSError as error:
        raise EngineError(f"llama.cpp cannot be asked for its devices: {error.strerror}") from error
    # A driver may print what it likes before: the answer is the last line.
    answer = done.stdout.splitlines()[-1:] or [b""]
    try:
        if done.returncode == 0:
            return msgspec.json.decode(answer[0], type=tuple[Device, ...])
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    raise EngineError(f"llama.cpp did not list its devices: {_reason(done)}")


def main(arguments: Sequence[str]) -> int:
    """Print the devices as JSON; the exit status, with the reason for a failure on stderr."""
    try:
        devices = _list_devices([Path(path) for path in arguments[1::2]])
    except QwenctlError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    sys.stdout.write(f"\n{msgspec.json.encode(devices).decode()}\n")
    return 0


def _same_backend(one: Device, other: Device) -> bool:
    return backend_of(one.name) == backend_of(other.name)


def _reason(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if done.returncode < 0:
        return f"it was killed by signal {-done.returncode}"
    if not lines:
        return f"exit status {done.returncode}"
    return "".join(character for character in lines[-1] if character.isprintable()).strip()[:300]


def _list_devices(backends: Sequence[Path]) -> list[Device]:
    """ggml's devices, once its further libraries are loaded. Raises: LoadFailed."""
    from qwenctl.runtime.bindings import load_backends
    from qwenctl.runtime.ggml import ggml_devices

    load_backends(backends)
    return [
        Device(
            name=device.name,
            description=device.description,
            type=device.type,
            free_bytes=device.free_bytes,
            total_bytes=device.total_bytes,
            device_id=device.device_id or None,
        )
        for device in ggml_devices()
    ]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
