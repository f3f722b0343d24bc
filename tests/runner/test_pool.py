"""Pool: what is loaded when, shared by whom, and who makes room."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from qwenctl.errors import Conflict, LoadFailed, QwenctlError, ReferenceUnknown, WorkerDied
from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.models import FoundModel
from qwenctl.runner.pool import Limits, Pool
from qwenctl.runtime.events import Finished
from tests.runner.pool_builders import Counted, answer, pool, run, until_gone
from tests.runner.runner_builders import LONG, NamedModels, ask


def test_the_first_request_loads() -> None:
    """A model is loaded by its first request, and shared by its names and its next requests."""

    async def body() -> None:
        async with pool() as (made, starter):
            assert await made.loaded() == []
            assert await answer(made, "echo") == "hi"
            assert await answer(made, "alias") == "hi"
            assert len(starter.workers) == 1
            [status] = await made.loaded()
            assert (status.name, status.state, status.requests) == ("echo", "ready", 0)
            assert status.model is not None
            assert status.model.architecture == "scripted"
            assert status.resident_bytes

    run(body())


def test_concurrent_requests_load_once() -> None:
    """Ten requests at once for a model that is not loaded start one worker."""

    async def body() -> None:
        async with pool() as (made, starter):
            answers = asyncio.gather(*(answer(made, "late", str(number)) for number in range(10)))
            await asyncio.sleep(0.1)
            assert [status.state for status in await made.loaded()] == ["loading"]
            assert made.working == 10
            assert await answers == [str(number) for number in range(10)]
            assert len(starter.workers) == 1

    run(body())


def test_a_failed_load_fails_all_who_wait_and_is_tried_again() -> None:
    """All requests that waited for a load get its error; the next request loads anew."""

    async def body() -> None:
        async with pool() as (made, starter):
            results = await asyncio.gather(
                *(answer(made, "refused") for _ in range(3)), return_exceptions=True
            )
            assert [type(result) for result in results] == [LoadFailed] * 3
            assert len(made) == 0
            with pytest.raises(LoadFailed):
                await answer(made, "refused")
            assert len(starter.workers) == 2

    run(body())


def test_who_leaves_does_not_stop_the_load_of_others() -> None:
    """A request that is cancelled while its model loads leaves the load to the other one that waits."""

    async def body() -> None:
        async with pool() as (made, starter):
            leaving = asyncio.create_task(answer(made, "late"))
            staying = asyncio.create_task(answer(made, "late"))
            await asyncio.sleep(0.1)
            leaving.cancel()
            assert await staying == "hi"
            assert len(starter.workers) == 1
            assert made.working == 0

    run(body())


def test_an_idle_model_is_unloaded() -> None:
    """A model goes when its keep-alive is over, counted from its last request."""

    async def body() -> None:
        async with pool(keep_alive=0.5) as (made, starter):
            await answer(made, "echo")
            await asyncio.sleep(0.25)
            await answer(made, "echo")
            [status] = await made.loaded()
            assert status.expires_seconds is not None
            assert 0.3 < status.expires_seconds <= 0.5
            await until_gone(made)
            assert len(starter.workers) == 1

    run(body())


@pytest.mark.parametrize(("keep_alive", "stays"), [(0.0, False), (float("inf"), True)])
def test_a_request_sets_the_keep_alive(keep_alive: float, stays: bool) -> None:
    """Keep-alive 0 unloads after the request, infinity never; a later request without one keeps it."""

    async def body() -> None:
        async with pool(keep_alive=0.2) as (made, _):
            await answer(made, "echo", keep_alive=keep_alive)
            assert bool(len(made)) is stays
            if stays:
                await answer(made, "echo")
                await asyncio.sleep(0.3)
                [status] = await made.loaded()
                assert status.expires_seconds is None

    run(body())


def test_a_working_model_does_not_expire() -> None:
    """The keep-alive does not run while a request holds the model."""

    async def body() -> None:
        async with pool(keep_alive=0.05) as (made, _):
            assert await answer(made, "slow", "twenty characters ..") == "twenty characters .."

    run(body())


def test_a_dead_worker_takes_its_own_requests_only() -> None:
    """After a SIGKILL the other model's answer goes on, and the next request loads the dead one again."""

    async def body() -> None:
        async with pool() as (made, starter):
            doomed, safe = made.generate("slow", ask(LONG)), made.generate("echo", ask("safe"))
            await anext(doomed)
            first = await anext(safe)
            os.kill(starter.workers[0].pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                async for _ in doomed:
                    pass
            events = [first, *[event async for event in safe]]
            assert isinstance(events[-1], Finished)
            assert await answer(made, "slow", "back") == "back"
            assert len(starter.workers) == 3

    run(body())


def test_an_idle_worker_that_dies_is_forgotten() -> None:
    """A model whose worker died while nobody used it is no longer loaded, and loads again."""

    async def body() -> None:
        async with pool() as (made, starter):
            await answer(made, "echo")
            os.kill(starter.workers[0].pid, signal.SIGKILL)
            await until_gone(made)
            assert await answer(made, "echo") == "hi"

    run(body())


def test_load_options_reach_the_engine() -> None:
    """A model is opened with the wishes of its load; requests without wishes share it."""

    async def body() -> None:
        async with pool() as (made, starter):
            status = await made.load("echo", LoadOptions(context_length=64), keep_alive_seconds=30)
            assert status.model is not None
            assert (status.model.context_length, status.requests) == (64, 0)
            assert status.expires_seconds == pytest.approx(30, abs=1)
            assert await answer(made, "echo") == "hi"
            assert len(starter.workers) == 1

    run(body())


def test_other_options_load_an_idle_model_again() -> None:
    """Wishes that differ replace the worker of an idle model, and are refused for a working one."""

    async def body() -> None:
        async with pool() as (made, starter):
            await made.load("slow", LoadOptions(context_length=64))
            status = await made.load("slow", LoadOptions(context_length=1024))
            assert status.model is not None
            assert status.model.context_length == 1024
            assert [worker.alive for worker in starter.workers] == [False, True]
            stream = made.generate("slow", ask(LONG))
            await anext(stream)
            with pytest.raises(Conflict, match="works"):
                await made.load("slow", LoadOptions(context_length=64))
            await stream.aclose()

    run(body())


def test_other_options_share_one_load() -> None:
    """Two that ask an idle model for the same other options at once get one new worker."""

    async def body() -> None:
        async with pool() as (made, starter):
            await made.load("late", LoadOptions(context_length=64))
            wishes = LoadOptions(context_length=1024)
            statuses = await asyncio.gather(*(made.load("late", wishes) for _ in range(3)))
            assert len({status.pid for status in statuses}) == 1
            assert [worker.alive for worker in starter.workers] == [False, True]

    run(body())


def test_stop_ends_a_working_model() -> None:
    """Stopping unloads at once and says what; the answer that ran fails with an error of ours."""

    async def body() -> None:
        async with pool() as (made, _):
            stream = made.generate("slow", ask(LONG))
            await anext(stream)
            assert await made.stop("slow") == ["slow"]
            with pytest.raises(QwenctlError):
                async for _event in stream:
                    pass
            assert await made.stop("slow") == []
            with pytest.raises(ReferenceUnknown):
                await made.stop("nowhere")

    run(body())


def test_stop_ends_a_load() -> None:
    """A model that is stopped while it loads does not load; who waits for it is told."""

    async def body() -> None:
        async with pool() as (made, _):
            waiting = asyncio.create_task(answer(made, "very-late"))
            while not [status.pid for status in await made.loaded() if status.pid]:
                await asyncio.sleep(0.01)
            assert await made.stop(None) == ["very-late"]
            with pytest.raises(LoadFailed):
                await waiting

    run(body())


class ChangingModels(NamedModels):
    """A store in which `echo` can be another model from now on, or none."""

    def __init__(self) -> None:
        self.echo: FoundModel | None = super().find("echo")

    def find(self, name: str) -> FoundModel:
        """See `ModelSource`."""
        if self.echo is None:
            raise ReferenceUnknown(f"`{name}` is not here")
        return self.echo


@pytest.mark.parametrize("now", [None, FoundModel("echo", "sha256:new", Path("/nowhere/echo.gguf"))])
def test_stop_finds_what_the_store_has_lost(now: FoundModel | None) -> None:
    """A model that was removed, or whose tag moved on, after it was loaded still stops by its name."""

    async def body() -> None:
        source = ChangingModels()
        made = Pool(source, Counted(), keep_alive_seconds=60, limits=Limits(models=2))
        await answer(made, "echo")
        source.echo = now
        assert await made.stop("echo") == ["echo"]
        await made.close()

    run(body())


def test_an_unknown_model_is_not_loaded() -> None:
    """A name that the source does not know raises its error and starts nothing."""

    async def body() -> None:
        async with pool() as (made, starter):
            with pytest.raises(ReferenceUnknown):
                await answer(made, "nowhere")
            assert starter.workers == []

    run(body())


def test_a_refused_request_gives_the_model_back() -> None:
    """An error of one request leaves no hold behind."""

    async def body() -> None:
        async with pool() as (made, _):
            with pytest.raises(QwenctlError):
                await answer(made, "echo", "x" * 5000)
            assert made.working == 0

    run(body())
