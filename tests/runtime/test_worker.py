import os
import signal
from pathlib import Path

import msgspec
import pytest

from qwenctl.errors import EngineError
from qwenctl.runtime import wire
from qwenctl.runtime.engine import CompletionRequest, EngineOptions
from qwenctl.runtime.events import PromptProcessed, TextDelta
from qwenctl.runtime.local import open_engine
from qwenctl.runtime.sampling import Sampling
from tests.contracts.engine import run
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.worker_client import WorkerClient

NOWHERE = EngineOptions(path=Path("/nowhere"))
SLOW = """
import os, sys
from qwenctl.runtime.scripted import ScriptedEngine
from qwenctl.runtime.worker import main

def open_slow(options):
    print("noise on sys.stdout", flush=True)
    os.write(1, b"noise on descriptor 1")
    assert os.read(0, 1) == b"", "stdin belongs to the frames"
    return ScriptedEngine(pause_seconds=0.01, slots=2)

main(open_slow)
"""


def greedy(prompt: str, max_tokens: int | None = 20) -> CompletionRequest:
    """A request with one right answer."""
    return CompletionRequest(prompt=prompt, sampling=Sampling(temperature=0), max_tokens=max_tokens)


def llama_worker() -> WorkerClient:
    """The real worker."""
    return WorkerClient("-m", "qwenctl.runtime.worker")


def slow_worker() -> WorkerClient:
    """A worker whose echoing engine takes 10 ms a letter, loaded, and which makes noise on stdout."""
    client = WorkerClient("-c", SLOW)
    client.send(wire.Load(NOWHERE))
    assert isinstance(client.receive(), wire.Loaded)
    return client


def test_a_model_is_loaded_asked_and_shut_down(tmp_path: Path) -> None:
    """The texts of concurrent requests over the pipes are those of the engine alone; the end is in order."""
    options = EngineOptions(path=write_tiny_model(tmp_path / "tiny.gguf"), context_length=128)
    prompts = {number: f"tell me {number}" for number in range(6)}
    engine = open_engine(options)
    alone = {number: run(engine, greedy(prompt))[0] for number, prompt in prompts.items()}
    with llama_worker() as worker:
        worker.send(wire.Load(options))
        loaded = worker.receive()
        assert isinstance(loaded, wire.Loaded)
        assert msgspec.structs.replace(loaded.model, memory_bytes=engine.model.memory_bytes) == engine.model
        worker.send(*(wire.Generate(number, greedy(prompt)) for number, prompt in prompts.items()))
        assert {number: text for number, (text, _) in worker.finish(*prompts).items()} == alone
        worker.send(wire.Count(7, greedy("four")), wire.ReadStats(8))
        answers = {type(report): report for report in (worker.receive(), worker.receive())}
        assert answers[wire.Counted] == wire.Counted(7, 4)
        stats = answers[wire.Stats]
        assert isinstance(stats, wire.Stats) and stats.resident_bytes > 0
        assert stats.engine.completion_tokens == 6 * 20
        worker.send(wire.Shutdown())
        assert worker.wait() == 0
    engine.close()


def test_a_damaged_file_is_a_report_not_a_crash(tmp_path: Path) -> None:
    """The report carries llama.cpp's reason, and the worker lives to load another file."""
    good = write_tiny_model(tmp_path / "tiny.gguf")
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(good.read_bytes()[:-1000])
    with llama_worker() as worker:
        worker.send(wire.Load(EngineOptions(path=bad)))
        report = worker.receive()
        assert isinstance(report, wire.Failed)
        assert (report.id, report.code) == (None, "load_failed")
        assert "corrupted or incomplete" in report.message
        worker.send(wire.Load(EngineOptions(path=good)))
        assert isinstance(worker.receive(), wire.Loaded)


def test_requests_need_a_model() -> None:
    """Before a load, and with a second one, there is an error for the id."""
    with WorkerClient("-m", "qwenctl.runtime.scripted") as worker:
        worker.send(wire.Generate(1, greedy("x")), wire.ReadStats(2), wire.Load(NOWHERE), wire.Load(NOWHERE))
        reports = [worker.receive() for _ in range(4)]
        failed = {report.id: report.code for report in reports if isinstance(report, wire.Failed)}
        assert failed == {1: "engine", 2: "engine", None: "conflict"}
        assert sum(isinstance(report, wire.Loaded) for report in reports) == 1


def test_noise_on_stdout_does_not_reach_the_frames() -> None:
    """What the engine prints goes to stderr."""
    with slow_worker() as worker:
        worker.send(wire.Generate(1, greedy("abc")))
        assert worker.finish(1)[1][0] == "abc"
        worker.send(wire.Shutdown())
        assert worker.wait() == 0
        assert worker.process.stderr is not None
        assert b"noise on sys.stdout\nnoise on descriptor 1" in worker.process.stderr.read()


def test_requests_are_cancelled_by_id() -> None:
    """In mid-answer, and before the worker has even looked at the request; unknown ids do nothing."""
    with slow_worker() as worker:
        worker.send(wire.Generate(1, greedy("x" * 900, None)), wire.Generate(2, greedy("short")))
        while not (
            isinstance(report := worker.receive(), wire.Emitted) and isinstance(report.event, TextDelta)
        ):
            pass
        worker.send(
            wire.Cancel(1), wire.Generate(3, greedy("y" * 900, None)), wire.Cancel(3), wire.Cancel(99)
        )
        ends = worker.finish(1, 2, 3)
        assert [ends[id][1].reason for id in (1, 2, 3)] == ["cancelled", "stop", "cancelled"]


def test_a_request_that_fails_does_so_alone() -> None:
    """A prompt that is too long has a report of its own, with the class of the error."""
    with slow_worker() as worker:
        worker.send(wire.Generate(1, greedy("abcdef")), wire.Generate(2, greedy("x" * 5000)))
        reports = [worker.receive()]
        while not isinstance(reports[-1], wire.Failed):
            reports.append(worker.receive())
        assert (reports[-1].id, reports[-1].code) == (2, "prompt_too_long")
        assert worker.finish(1)[1][1].reason == "stop"


def test_the_end_of_stdin_ends_the_process() -> None:
    """With its parent gone, a worker leaves at once, even while it answers."""
    with slow_worker() as worker:
        worker.send(wire.Generate(1, greedy("x" * 900, None)))
        report = worker.receive()
        assert isinstance(report, wire.Emitted) and isinstance(report.event, PromptProcessed)
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        worker.process.stdin = None  # so that `communicate` does not flush it
        assert worker.wait() == 0


def test_a_reader_that_is_gone_ends_the_process() -> None:
    """Nobody to report to: the next report is the last."""
    with slow_worker() as worker:
        assert worker.process.stdout is not None
        worker.process.stdout.close()
        worker.process.stdout = None
        worker.send(wire.Generate(1, greedy("abc")))
        assert worker.wait() == 0


def test_ctrl_c_is_the_runners_affair() -> None:
    """SIGINT, which a terminal sends to the whole group, changes nothing."""
    with slow_worker() as worker:
        os.kill(worker.process.pid, signal.SIGINT)
        worker.send(wire.Generate(1, greedy("abc")))
        assert worker.finish(1)[1][0] == "abc"


def test_what_is_no_command_ends_the_process() -> None:
    """A stream that lost its frames cannot be trusted any more; the status says engine."""
    with slow_worker() as worker:
        assert worker.process.stdin is not None
        worker.process.stdin.write(b"\x00\x00\x00\x01\xc0")
        worker.process.stdin.flush()
        assert worker.wait() == EngineError.exit_code
        with pytest.raises(EOFError):
            worker.receive()
