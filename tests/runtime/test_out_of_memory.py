"""Memory that is short all the same: at a load, in an answer, and as the end of the process. No GPU here."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from queue import Queue

import pytest

from qwenctl.errors import LoadFailed, MemoryShort, QwenctlError, WorkerDied
from qwenctl.runner.supervisor import Worker
from qwenctl.runtime.batches import Outcome, Span
from qwenctl.runtime.bindings import Log
from qwenctl.runtime.engine import ChatRequest, EngineOptions, LoadedModel, Message
from qwenctl.runtime.events import Event, Finished, TextDelta
from qwenctl.runtime.generation import Generation, Task
from qwenctl.runtime.scheduler import Scheduler
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.scripted_decoder import ScriptedDecoder, always, never

ERROR, INFO = 4, 2

# A worker that may have 3 GiB of address space, as where an administrator has set a limit.
LIMITED_WORKER = (
    sys.executable,
    "-c",
    "import resource, runpy; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30));"
    "runpy.run_module('qwenctl.runtime.worker', run_name='__main__')",
)
ABORTING = """
import ctypes, os, sys
from qwenctl.runtime.bindings import library

def end(reason):
    print(reason, flush=True)
    if sys.argv[1] == "end":
        os._exit(3)

opened = library()
opened.on_abort(end)
opened.ggml("ggml_abort", None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)(b"ggml.c", 7, b"CUDA error")
"""


@pytest.mark.parametrize(
    "line",
    [
        "alloc_buffer: allocating 46.03 MiB on device 0: cudaMalloc failed: out of memory",
        "ggml_vulkan: Device memory allocation of size 1073741824 failed.: ErrorOutOfDeviceMemory",
        "ggml_gallocr_reserve_n_impl: failed to allocate CUDA0 buffer of size 512",
        "llama_model_load: error loading model: unable to allocate CUDA0 buffer",
        "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "CUDA error: out of memory",
    ],
)
def test_each_backend_has_its_words_for_it(line: str) -> None:
    """The line that says that memory is short is the reason, whatever stands before and after it."""
    log = Log()
    for text in ("load_tensors: loading", line, "llama_model_load_from_file: failed to load model"):
        log.write(ERROR, f"{text}\n".encode(), None)
    failure = log.failure("llama.cpp refused `x.gguf`", hint="pull it again")
    assert isinstance(failure, MemoryShort)
    assert failure.message.startswith("llama.cpp refused `x.gguf`: ")
    assert line.endswith(failure.message.removeprefix("llama.cpp refused `x.gguf`: "))
    assert failure.hint is not None and "--kv q8_0" in failure.hint


def test_other_failures_are_none_of_memory() -> None:
    """A damaged file is LoadFailed, with the first error; the word memory alone means nothing."""
    log = Log()
    log.write(INFO, b"llama_kv_cache: memory of 12 MiB\n", None)
    log.write(ERROR, b"gguf_init_from_file: failed to read magic\n", None)
    assert log.shortage() is None
    assert type(log.failure("refused", hint="pull it again")) is LoadFailed


class FullDecoder(ScriptedDecoder):
    """Has no memory for a batch with token 13."""

    def __init__(self) -> None:
        super().__init__()
        self.poison = 13

    def decode(self, spans: Sequence[Span]) -> Outcome:
        """See `Decoder`."""
        outcome = super().decode(spans)
        return Outcome.NO_MEMORY if outcome is Outcome.FAILED else outcome

    def last_error(self) -> str:
        """See `Decoder`."""
        return "cudaMalloc failed: out of memory"


def test_an_answer_without_memory_fails_alone() -> None:
    """Requests that share the batch are tried one by one; who needs too much is told, the others go on."""
    decoder = FullDecoder()
    decoder.hold = always
    scheduler = Scheduler(decoder, 2)
    inboxes: list[Queue[Event | QwenctlError]] = [Queue(), Queue()]
    for first, inbox in zip((1, 11), inboxes, strict=True):
        scheduler.submit(Generation(Task([first], max_tokens=9), inbox.put, 100))
    decoder.hold = never
    good, bad = map(items_of, inboxes)
    scheduler.close()
    assert "".join(item.text for item in good if isinstance(item, TextDelta)) == "2 3 4 5 6 7 8 9 10 "
    assert isinstance(bad[-1], MemoryShort)
    assert "in the middle of an answer: cudaMalloc failed: out of memory" in bad[-1].message
    assert bad[-1].hint


def items_of(inbox: "Queue[Event | QwenctlError]") -> list[Event | QwenctlError]:
    """What a request causes, to its end."""
    items = [inbox.get(timeout=10)]
    while not isinstance(items[-1], Finished | QwenctlError):
        items.append(inbox.get(timeout=10))
    return items


async def load(argv: Sequence[str], options: EngineOptions) -> LoadedModel:
    """The model in a worker."""
    worker = await Worker.start(argv)
    try:
        return await worker.load("it", options)
    finally:
        await worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit of the address space binds nobody")
def test_ram_that_cannot_be_had(tmp_path: Path) -> None:
    """A KV cache beyond the limit of the process is MemoryShort in llama.cpp's words, not its end."""
    tiny = write_tiny_model(tmp_path / "tiny.gguf", context_length=1 << 24)
    options = EngineOptions(path=tiny, context_length=1 << 24, slots=1, threads=1)
    with pytest.raises(MemoryShort, match=r"a context of 16777216 tokens .*: insufficient memory"):
        asyncio.run(load(LIMITED_WORKER, options))
    small = EngineOptions(path=tiny, context_length=256, slots=1, threads=1)
    assert asyncio.run(load(LIMITED_WORKER, small)).context_length == 256


@pytest.mark.parametrize(("then", "status"), [("end", 3), ("return", -signal.SIGABRT)])
def test_an_abort_of_ggml_gives_its_reason_first(then: str, status: int) -> None:
    """What ends the process is asked before it does, with ggml's reason; it may choose the end itself."""
    done = subprocess.run([sys.executable, "-c", ABORTING, then], capture_output=True, text=True)
    assert done.stdout == "ggml.c:7: CUDA error\n"
    assert done.returncode == status


def worker_ending_with(status: int) -> list[str]:
    """A worker that reads its first command and ends."""
    return [sys.executable, "-c", f"import os, sys; sys.stdin.buffer.read(1); os._exit({status})"]


def test_a_worker_that_ends_over_it_while_it_loads() -> None:
    """A worker that says by its status that memory was short makes it MemoryShort; any other LoadFailed."""
    options = EngineOptions(path=Path("/nowhere/it.gguf"))
    with pytest.raises(MemoryShort, match=r"the worker of `it` ended \(out of memory\) while it loaded"):
        asyncio.run(load(worker_ending_with(MemoryShort.exit_code), options))
    with pytest.raises(LoadFailed, match="exit status 1"):
        asyncio.run(load(worker_ending_with(1), options))


def test_a_worker_that_ends_over_it_in_an_answer() -> None:
    """The request's error is WorkerDied, as for any other death, and says why."""

    async def ask() -> None:
        worker = await Worker.start(worker_ending_with(MemoryShort.exit_code))
        try:
            request = ChatRequest(messages=(Message("user", "hi"),))
            async for _ in worker.generate(request):
                pass
        finally:
            await worker.close()

    with pytest.raises(WorkerDied, match=r"\(out of memory\)") as info:
        asyncio.run(ask())
    assert "the next request loads it again" in str(info.value.hint)
