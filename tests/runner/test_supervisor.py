"""Worker: one process, many requests, and what its death does to them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from qwenctl.errors import EngineError, LoadFailed, PromptTooLong, WorkerDied
from qwenctl.runner.supervisor import Worker, WorkerStarter
from qwenctl.runtime.engine import ChatRequest, EngineOptions
from qwenctl.runtime.events import Event, Finished, TextDelta
from tests.runner.runner_builders import LONG, SCRIPTED_WORKER, ask, text_of


@asynccontextmanager
async def worker(behaviour: str = "echo", log: Path | None = None) -> AsyncIterator[Worker]:
    """A worker with a model that shows `behaviour`."""
    started = await Worker.start(SCRIPTED_WORKER, log)
    try:
        await started.load(behaviour, EngineOptions(path=Path(f"/nowhere/{behaviour}.gguf")))
        yield started
    finally:
        await started.close()


async def answer(started: Worker, request: ChatRequest) -> list[Event]:
    """All events of one request."""
    return [event async for event in started.generate(request)]


def run(body: Coroutine[None, None, None]) -> None:
    """Runs a test's body, for 20 seconds at the most."""
    asyncio.run(asyncio.wait_for(body, 20))


def test_an_answer_ends_with_finished() -> None:
    """A request gives its text and exactly one Finished, the last."""

    async def body() -> None:
        async with worker() as started:
            events = await answer(started, ask("hello"))
            assert text_of(events) == "hello"
            assert [type(event) for event in events].count(Finished) == 1
            assert isinstance(events[-1], Finished)

    run(body())


def test_requests_share_a_worker() -> None:
    """Requests that run side by side get each its own answer."""

    async def body() -> None:
        async with worker() as started:
            texts = [f"question {number}" for number in range(20)]
            answers = await asyncio.gather(*(answer(started, ask(text)) for text in texts))
            assert [text_of(events) for events in answers] == texts

    run(body())


def test_closing_an_answer_cancels_it() -> None:
    """A closed generator frees its slot in the worker long before the text would have ended."""

    async def body() -> None:
        async with worker("slow") as started:
            async with aclosing(started.generate(ask(LONG))) as events:
                assert await anext(events)
            for _ in range(100):
                if not (await started.stats()).engine.running:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("it still runs")

    run(body())


def test_a_refused_request_fails_alone() -> None:
    """A prompt that does not fit raises for its own caller; the worker goes on."""

    async def body() -> None:
        async with worker() as started:
            with pytest.raises(PromptTooLong):
                await answer(started, ask("x" * 3000))
            assert text_of(await answer(started, ask("still here"))) == "still here"
            assert await started.count_tokens(ask("four")) == 4

    run(body())


def test_a_killed_worker_fails_its_requests(tmp_path: Path) -> None:
    """SIGKILL in mid-stream raises WorkerDied in all requests and later ones, naming model and log."""

    async def body() -> None:
        log = tmp_path / "log"
        async with worker("slow", log) as started:
            streams = [started.generate(ask(LONG)) for _ in range(3)]
            for stream in streams:
                await anext(stream)
            os.kill(started.pid, signal.SIGKILL)
            for stream in streams:
                with pytest.raises(WorkerDied, match=r"`slow` ended \(SIGKILL") as caught:
                    async for event in stream:
                        assert isinstance(event, TextDelta)
                assert str(log) in str(caught.value.hint)
            assert not started.alive
            with pytest.raises(WorkerDied):
                await answer(started, ask("again"))

    run(body())


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("refused", "`refused` is not a model"), ("crashing", r"ended \(SIGABRT\) while it")],
)
def test_a_load_fails(behaviour: str, message: str) -> None:
    """A model that is refused, and one that takes its worker down, are both LoadFailed."""

    async def body() -> None:
        with pytest.raises(LoadFailed, match=message):
            async with worker(behaviour):
                pass

    run(body())


def test_nonsense_on_stdout_ends_the_worker() -> None:
    """A program that does not speak the protocol is killed, and its load fails."""

    async def body() -> None:
        program = "import sys, time; print('hello, I am no worker'); sys.stdout.flush(); time.sleep(60)"
        started = await Worker.start((sys.executable, "-c", program))
        with pytest.raises(LoadFailed):
            await started.load("x", EngineOptions(path=Path("/nowhere/x.gguf")))
        await started.close()

    run(body())


def test_a_deaf_worker_is_killed() -> None:
    """A worker that ignores the request to end is gone after the grace."""

    async def body() -> None:
        program = "import time; time.sleep(60)"
        started = await Worker.start((sys.executable, "-c", program))
        await started.close(grace_seconds=0.1)
        with pytest.raises(ProcessLookupError):
            os.kill(started.pid, 0)

    run(body())


def test_a_missing_program_is_an_engine_error() -> None:
    """A worker program that does not exist says so."""

    async def body() -> None:
        with pytest.raises(EngineError, match="cannot start a worker"):
            await Worker.start(("/nowhere/worker",))

    run(body())


def test_the_spare_worker_is_used_once() -> None:
    """The worker that was started ahead is handed out first; an unused or dead one is no obstacle."""

    async def body() -> None:
        starter = WorkerStarter(SCRIPTED_WORKER, None)
        starter.warm()
        first, second = await starter(), await starter()
        assert first.pid != second.pid
        starter.warm()
        await first.close()
        await second.close()
        await starter.close()

    run(body())
