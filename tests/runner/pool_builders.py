"""A pool of scripted workers, for tests of who is loaded when."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from qwenctl.runner.pool import Limits, Pool
from qwenctl.runner.supervisor import Worker
from tests.runner.runner_builders import SCRIPTED_WORKER, NamedModels, ask, text_of


class Counted:
    """Starts scripted workers and remembers how many."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []

    async def __call__(self) -> Worker:
        """One more."""
        self.workers.append(await Worker.start(SCRIPTED_WORKER))
        return self.workers[-1]


@asynccontextmanager
async def pool(
    keep_alive: float = 60, limit: int = 2, patience_seconds: float = 60
) -> AsyncIterator[tuple[Pool, Counted]]:
    """A pool of scripted workers, with proof at the end that none is left."""
    starter, limits = Counted(), Limits(models=limit, patience_seconds=patience_seconds)
    made = Pool(NamedModels(), starter, keep_alive_seconds=keep_alive, limits=limits)
    try:
        yield made, starter
    finally:
        await made.close()
        assert len(made) == 0
        assert not any(worker.alive for worker in starter.workers)


async def answer(made: Pool, name: str, text: str = "hi", keep_alive: float | None = None) -> str:
    """The text of one answer."""
    return text_of([event async for event in made.generate(name, ask(text), keep_alive_seconds=keep_alive)])


async def names(made: Pool) -> list[str]:
    """What is loaded."""
    return [status.name for status in await made.loaded()]


async def until_gone(made: Pool) -> None:
    """Waits until nothing is loaded."""
    while len(made):
        await asyncio.sleep(0.01)


def run(body: Coroutine[None, None, None]) -> None:
    """Runs a test's body, for 20 seconds at the most."""
    asyncio.run(asyncio.wait_for(body, 20))
