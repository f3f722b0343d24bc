"""A process with simulated GPUs; the environment describes them (see `build.simulate`).

python -m tests.simgpu.simgpu_program LIBRARY …
    devices              ggml's devices
    answer MODEL LAYERS  a greedy answer, with LAYERS of the model on GPUs
    hold MODEL           the devices beside the open model, which stays open until stdin ends

One line of JSON on stdout: the result, or `{"error": class, "message": text}`.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from qwenctl.errors import QwenctlError
from qwenctl.runtime.bindings import load_backends
from qwenctl.runtime.engine import CompletionRequest, EngineOptions
from qwenctl.runtime.events import TextDelta
from qwenctl.runtime.ggml import ggml_devices
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.sampling import Sampling

PROMPT = "go on: a b c d e f g"
TOKENS = 24


def main(library: str, verb: str, *arguments: str) -> None:
    """Does what the module describes."""
    try:
        load_backends([Path(library)])
        verbs: dict[str, Callable[..., object]] = {"devices": devices, "answer": answer, "hold": hold}
        say(verbs[verb](*arguments))
    except QwenctlError as error:
        say({"error": type(error).__name__, "message": error.message})
    sys.stdin.read()


def say(result: object) -> None:
    """One line for the test that started this process."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def devices() -> Sequence[dict[str, object]]:
    """Every device as a JSON object."""
    return [dataclasses.asdict(device) for device in ggml_devices()]


def answer(model: str, layers: str) -> dict[str, object]:
    """The text, with the bytes that were free on each device meanwhile."""
    engine = open_tiny(model, int(layers))
    request = CompletionRequest(prompt=PROMPT, sampling=Sampling(temperature=0), max_tokens=TOKENS)
    events = list(engine.generate(request))
    free = {device.name: device.free_bytes for device in ggml_devices()}
    engine.close()
    return {"text": "".join(event.text for event in events if isinstance(event, TextDelta)), "free": free}


def hold(model: str) -> Sequence[dict[str, object]]:
    """The devices beside an open model, which nobody closes."""
    held.append(open_tiny(model, -1))
    return devices()


def open_tiny(model: str, layers: int) -> LlamaEngine:
    """An engine with one slot; sums in full precision, so that an answer does not depend on the place."""
    options = EngineOptions(
        path=Path(model), slots=1, gpu_layers=layers, context_length=256, flash_attention="off", threads=1
    )
    return open_engine(options)


held: list[LlamaEngine] = []

if __name__ == "__main__":
    main(*sys.argv[1:])
