"""llama.cpp asked for its own figures: a model opened without allocating, in a process that then ends.

    Shape → skeleton in a temporary file → child: llama.cpp with `no_alloc` → Estimate for each configuration

A process of its own, because llama.cpp aborts on what it does not expect, because a GPU's driver keeps
memory for as long as the process lives, and because backends are loaded for good.

A fault of llama.cpp's measurement: with several GPUs and all layers on them it forgets which device the norms
are bound to, and reports a little too much for every GPU but the first (up to a fifth of the compute buffer).

`python -P -m qwenctl.runtime.measure` is the child: a `Call` as JSON on stdin, an `Answer` on stdout.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from qwenctl.errors import LoadFailed, QwenctlError
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.figures import Estimate, Method
from qwenctl.model.memory.hyperparameters import Unknown
from qwenctl.model.shape import Shape
from qwenctl.model.skeleton import make_skeleton

_SECONDS: Final = 60.0
_ARGV: Final = (sys.executable, "-P", "-m", "qwenctl.runtime.measure")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. `devices` are GPUs by ggml's names, None for those that llama.cpp takes, () for none.

    `allocate` really allocates, for comparisons: the file must then have its tensors, or a hole there.
    """

    path: Path
    configurations: list[Configuration]
    devices: tuple[str, ...] | None = None
    backends: list[Path] = []
    allocate: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate for each configuration; None where llama.cpp refused it, with its reason in `problems`."""

    estimates: list[Estimate | None]
    problems: list[str]


def measure(
    shape: Shape,
    configurations: Sequence[Configuration],
    devices: tuple[str, ...] | None = None,
    backends: Sequence[Path] = (),
) -> list[Estimate]:
    """What llama.cpp would allocate for each configuration, on this machine's real devices.

    Needs no file of the model; takes 0.2 s and 20 ms a configuration, more where a GPU's driver starts.

    Raises: Unknown with llama.cpp's reason, where it refuses the model or a configuration.
    """
    with tempfile.TemporaryDirectory(prefix="qwenctl-") as directory:
        path = Path(directory) / "skeleton.gguf"
        write_skeleton(shape, path)
        call = Call(path=path, configurations=[*configurations], devices=devices, backends=[*backends])
        answer = run_child(call)
    if any(item is None for item in answer.estimates):
        raise Unknown(next(iter(answer.problems), "llama.cpp gave no account of its memory"))
    return [item for item in answer.estimates if item is not None]


def write_skeleton(shape: Shape, path: Path) -> None:
    """The model's skeleton as a file with a hole in the place of its tensors."""
    skeleton = make_skeleton(shape)
    with path.open("wb") as file:
        file.write(skeleton.header)
        file.truncate(skeleton.file_bytes)


def run_child(call: Call) -> Answer:
    """The answer of a child process. Raises: Unknown when it dies over the model."""
    try:
        child = subprocess.run(
            _ARGV,
            input=msgspec.json.encode(call, enc_hook=str),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
        return msgspec.json.decode(child.stdout, type=Answer)
    except subprocess.TimeoutExpired as error:
        raise Unknown(f"llama.cpp did not answer within {_SECONDS:.0f} seconds") from error
    except msgspec.DecodeError as error:
        raise Unknown(f"llama.cpp ended over this model (status {child.returncode})") from error


def _answer(call: Call) -> Answer:
    from qwenctl.runtime.bindings import library, load_backends
    from qwenctl.runtime.engine import EngineOptions
    from qwenctl.runtime.llama import LlamaModel

    load_backends(call.backends)
    estimates: list[Estimate | None] = []
    problems: list[str] = []
    last: tuple[object, ...] | None = None
    model: LlamaModel | None = None
    for configuration in call.configurations:
        placing = (configuration.gpu_layers, configuration.tensor_split)
        try:
            if model is None or placing != last:
                if model is not None:
                    model.close()
                model, last = None, placing
                options = EngineOptions(
                    path=call.path,
                    gpu_layers=configuration.gpu_layers,
                    devices=call.devices,
                    tensor_split=configuration.tensor_split,
                    mmap=False,
                )
                model = LlamaModel(options, allocate=call.allocate)
            estimates.append(_of_context(model, configuration, allocate=call.allocate))
        except QwenctlError as error:
            estimates.append(None)
            problems.append(error.message.replace(f"`{call.path.name}`", "the model"))
            library().log.clear()
    return Answer(estimates=estimates, problems=problems)


def _of_context(model: Any, configuration: Configuration, *, allocate: bool) -> Estimate | None:
    from qwenctl.runtime.breakdown import read_memory
    from qwenctl.runtime.decoder import context_parameters

    api, log = model.library.api, model.library.log
    log.clear()
    parameters = context_parameters(api, configuration)
    parameters.op_offload = not model.cpu_only
    context = api.llama_init_from_model(model.handle, parameters)
    if not context:
        raise LoadFailed(f"llama.cpp refused the context: {log.error()}")
    try:
        size, layers = model.vocabulary.size, model.layers + 1
        method: Method = "loaded" if allocate else "measured"
        return read_memory(model.library, context, configuration, layers, size, method)
    finally:
        api.llama_free(context)


def main() -> None:
    """The child. It ends without an orderly exit, for drivers may hang in theirs."""
    target = os.dup(1)
    os.dup2(2, 1)  # whatever a driver prints is not an answer
    call = msgspec.json.decode(sys.stdin.buffer.read(), type=Call, dec_hook=lambda kind, value: kind(value))
    answer = msgspec.json.encode(_answer(call))
    view = memoryview(answer)
    while view:
        view = view[os.write(target, view) :]
    os._exit(0)


if __name__ == "__main__":
    main()
