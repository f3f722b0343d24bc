"""Who makes room for whom, and who waits for it."""

import asyncio

from tests.runner.pool_builders import answer, names, pool, run
from tests.runner.runner_builders import LONG, ask


def test_the_idle_model_used_longest_ago_makes_room() -> None:
    """A third model in a pool of two replaces the one that was used before the other."""

    async def body() -> None:
        async with pool(limit=2) as (made, _):
            for name in ("echo", "other", "echo", "third"):
                await answer(made, name)
            assert await names(made) == ["third", "echo"]

    run(body())


def test_a_working_model_never_makes_room() -> None:
    """An idle model goes although a working one is older; where all work the request waits for one."""

    async def body() -> None:
        async with pool(limit=2) as (made, _):
            stream = made.generate("slow", ask(LONG))
            await anext(stream)
            await answer(made, "echo")
            late = asyncio.create_task(answer(made, "late"))
            while await names(made) != ["slow", "late"]:
                await asyncio.sleep(0.01)
            waiting = asyncio.create_task(answer(made, "echo"))
            assert await late == await waiting == "hi"
            assert await names(made) == ["slow", "echo"]
            await stream.aclose()

    run(body())


def test_who_always_works_is_drained_for_who_waits() -> None:
    """A model that gets new requests all the time finishes what it has, and comes back after the other."""

    async def body() -> None:
        async with pool(limit=1, patience_seconds=0.05) as (made, starter):
            over = asyncio.Event()

            async def busy() -> int:
                count = 0
                while not over.is_set():
                    count += await answer(made, "slow") == "hi"
                return count

            always = [asyncio.create_task(busy()) for _ in range(3)]
            while await names(made) != ["slow"]:
                await asyncio.sleep(0.01)
            assert await answer(made, "echo") == "hi"
            assert len(starter.workers) == 2
            while await names(made) != ["slow"]:
                await asyncio.sleep(0.01)
            over.set()
            assert all(await asyncio.gather(*always))

    run(body())


def test_a_request_that_leaves_the_queue_for_a_place_drains_nobody() -> None:
    """Its model is not loaded, and the one at work goes on taking requests."""

    async def body() -> None:
        async with pool(limit=1, patience_seconds=0.05) as (made, starter):
            stream = made.generate("slow", ask(LONG))
            await anext(stream)
            waiting = asyncio.create_task(answer(made, "echo"))
            await asyncio.sleep(0.2)
            held = asyncio.create_task(answer(made, "slow", "later"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert await held == "later"
            await stream.aclose()
            assert len(starter.workers) == 1

    run(body())
