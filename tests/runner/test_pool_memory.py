"""Pool: what its planner decides, one load at a time, and who leaves where memory is short. Needs no GPU."""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest

from qwenctl.errors import Malformed, MemoryShort, QwenctlError
from qwenctl.model.memory.configuration import Configuration
from qwenctl.model.memory.figures import Estimate, HostMemory
from qwenctl.model.memory.plan import Place, Plan
from qwenctl.runner.messages import LoadOptions
from qwenctl.runner.models import FoundModel, LoadDecision, engine_options
from qwenctl.runner.pool import Limits, Pool
from qwenctl.runner.supervisor import Worker
from tests.runner.runner_builders import LONG, SCRIPTED_WORKER, NamedModels, ask, text_of

GIB = 1 << 30
PLANNED_TOKENS = 1024


class FakePlanner:
    """A `LoadPlanner` of a machine with so many GiB of RAM, of which `third` needs 2 and the others 1.

    `asked` are the models with what was held and what was to leave. `failure` is raised instead of an answer.
    Questions about what would be if others left are answered only while `answers` is set.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[tuple[str, list[str], list[str]]] = []
        self.failure: QwenctlError | None = None
        self.answers = threading.Event()
        self.answers.set()
        self._deciding = threading.Lock()

    def decide(
        self,
        found: FoundModel,
        options: LoadOptions,
        held: Mapping[str, Estimate],
        leaving: Collection[str] = (),
    ) -> LoadDecision:
        """See `LoadPlanner`."""
        assert self._deciding.acquire(blocking=False), "one load at a time"
        try:
            self.asked.append((found.name, [*held], [*leaving]))
            assert not leaving or self.answers.wait(10)
            return self._decide(found, options, sum(held[name].total_bytes for name in held.keys() - leaving))
        finally:
            self._deciding.release()

    def _decide(self, found: FoundModel, options: LoadOptions, taken_bytes: int) -> LoadDecision:
        if self.failure is not None:
            raise self.failure
        need, left = 2 if found.name == "third" else 1, self.room - taken_bytes // GIB
        if need > left and not options.force:
            raise MemoryShort(f"`{found.name}` needs {need} GiB of RAM, {left} can be used", hint="buy some")
        tokens = options.context_length or PLANNED_TOKENS
        planned = msgspec.structs.replace(engine_options(found, options), context_length=tokens, slots=2)
        return LoadDecision(planned, plan_of(need, tokens))


def plan_of(gib: int, tokens: int) -> Plan:
    """A plan on the CPU that takes so much RAM."""
    return Plan(
        verdict="cpu",
        configuration=Configuration(context_tokens=tokens, slots=2, gpu_layers=0),
        devices=(),
        estimate=Estimate(
            method="computed",
            devices=(),
            host=HostMemory(weights_bytes=gib * GIB),
            gpu_layers=0,
            layers=3,
            flash_attention=True,
        ),
        places=(Place(name="RAM", needed_bytes=gib * GIB, free_bytes=9 * GIB, capacity_bytes=16 * GIB),),
    )


@asynccontextmanager
async def pool(planner: FakePlanner, limit: int = 5) -> AsyncIterator[Pool]:
    """A pool of scripted workers, which tell nothing of their memory; proof at the end that none is left."""
    started: list[Worker] = []

    async def start() -> Worker:
        started.append(await Worker.start(SCRIPTED_WORKER))
        return started[-1]

    made = Pool(NamedModels(), start, keep_alive_seconds=60, limits=Limits(models=limit), planner=planner)
    try:
        yield made
    finally:
        await made.close()
        assert not any(worker.alive for worker in started)


async def load(made: Pool, *models: str) -> None:
    """Loads models, one after the other."""
    for name in models:
        await made.load(name, LoadOptions())


async def names(made: Pool) -> list[str]:
    """What is loaded."""
    return [status.name for status in await made.loaded()]


def run(body: Coroutine[None, None, None]) -> None:
    """Runs a test's body, for 20 seconds at the most."""
    asyncio.run(asyncio.wait_for(body, 20))


def test_each_plan_sees_what_the_load_before_it_took() -> None:
    """Loads that begin together are planned one at a time; each sees those before it, as they were planned
    where the engine tells nothing.
    """

    async def body() -> None:
        planner = FakePlanner(room=5)
        async with pool(planner) as made:
            await asyncio.gather(*(load(made, name) for name in ("late", "echo", "other")))
        assert [len(held) for _, held, _ in planner.asked] == [0, 1, 2]
        assert {name for name, _, _ in planner.asked} == {"late", "echo", "other"}

    run(body())


def test_the_status_has_the_plan() -> None:
    """A model is opened with the options of the decision, and its status has the plan."""

    async def body() -> None:
        async with pool(FakePlanner(room=5)) as made:
            status = await made.load("echo", LoadOptions(context_length=77))
            assert status.plan == plan_of(1, 77)
            assert status.model is not None
            assert (status.model.context_length, status.model.slots) == (77, 2)
            assert [item.plan for item in await made.loaded()] == [status.plan]

    run(body())


def test_wishes_that_the_plan_has_met_do_not_reload() -> None:
    """Who asks for what was planned shares the model, as does who forces; other wishes are planned anew."""

    async def body() -> None:
        planner = FakePlanner(room=5)
        async with pool(planner) as made:
            first = await made.load("echo", LoadOptions())
            met = (
                LoadOptions(context_length=PLANNED_TOKENS, slots=2, gpu_layers=-1),
                LoadOptions(force=True),
            )
            assert [(await made.load("echo", wishes)).pid for wishes in met] == [first.pid, first.pid]
            assert len(planner.asked) == 1
            other = await made.load("echo", LoadOptions(context_length=77))
            assert other.pid != first.pid
            assert planner.asked == [("echo", [], []), ("echo", ["echo"], ["echo"]), ("echo", [], [])]

    run(body())


def test_the_idle_model_used_longest_ago_leaves() -> None:
    """Where memory is short one model leaves, not the one that was used since."""

    async def body() -> None:
        planner = FakePlanner(room=2)
        async with pool(planner) as made:
            await load(made, "echo", "other", "echo", "late")
            assert await names(made) == ["late", "echo"]
            assert planner.asked[-1] == ("late", ["echo"], [])

    run(body())


def test_as_many_leave_as_must() -> None:
    """A model that needs the room of two gets it; a third one stays."""

    async def body() -> None:
        async with pool(FakePlanner(room=3)) as made:
            await load(made, "echo", "other", "late", "third")
            assert await names(made) == ["third", "late"]

    run(body())


def test_nobody_leaves_in_vain() -> None:
    """A model that would not fit alone either is refused, and those that are loaded stay."""

    async def body() -> None:
        async with pool(FakePlanner(room=1)) as made:
            await load(made, "echo")
            before = await made.loaded()
            with pytest.raises(MemoryShort, match="`third` needs 2 GiB of RAM, 0 can be used") as info:
                await load(made, "third")
            assert info.value.hint == (
                "buy some; loaded: `echo` (1.00 GiB, idle); it would not fit without them either"
            )
            assert [item.pid for item in await made.loaded()] == [item.pid for item in before]

    run(body())


def test_a_working_model_stays() -> None:
    """Where a working model is in the way the other one is refused with its name, until it is done."""

    async def body() -> None:
        async with pool(FakePlanner(room=2)) as made:
            await load(made, "echo")
            async with aclosing(made.generate("slow", ask(LONG))) as stream:
                await anext(stream)
                with pytest.raises(MemoryShort, match="`third` needs 2 GiB") as info:
                    await load(made, "third")
                assert info.value.hint == (
                    "buy some; loaded: `echo` (1.00 GiB, idle), `slow` (1.00 GiB, works); "
                    "it fits once `slow` has left (`qwenctl stop slow`)"
                )
                assert await names(made) == ["slow", "echo"]
            await load(made, "third")
            assert await names(made) == ["third"]

    run(body())


def test_a_model_that_gets_work_meanwhile_stays() -> None:
    """A model that idled when memory fell short, and then got a request, is not taken from it."""

    async def body() -> None:
        planner = FakePlanner(room=1)
        planner.answers.clear()
        async with pool(planner) as made:
            await load(made, "slow")
            waiting = asyncio.create_task(load(made, "echo"))
            while planner.asked[-1] != ("echo", ["slow"], ["slow"]):
                await asyncio.sleep(0.01)
            async with aclosing(made.generate("slow", ask(LONG))) as stream:
                await anext(stream)
                planner.answers.set()
                with pytest.raises(MemoryShort) as info:
                    await waiting
                assert "`slow` (1.00 GiB, works)" in str(info.value.hint)
                await anext(stream)

    run(body())


def test_force_is_the_planners_to_obey() -> None:
    """A load that is forced is tried beside what is loaded; nobody leaves for it."""

    async def body() -> None:
        async with pool(FakePlanner(room=1)) as made:
            await load(made, "echo")
            await made.load("other", LoadOptions(force=True))
            assert await names(made) == ["other", "echo"]

    run(body())


def test_an_error_of_the_planner_is_the_loads() -> None:
    """What is wrong with a file comes to who asked, before any worker starts; the next request is planned."""

    async def body() -> None:
        planner = FakePlanner(room=1)
        async with pool(planner) as made:
            await load(made, "other")
            planner.failure = Malformed("it is cut short")
            with pytest.raises(Malformed, match="it is cut short"):
                await load(made, "echo")
            assert await names(made) == ["other"]
            planner.failure = None
            assert text_of([event async for event in made.generate("echo", ask("hi"))]) == "hi"
            assert await names(made) == ["echo"]

    run(body())


def test_other_options_that_do_not_fit_leave_the_model_as_it_is() -> None:
    """A model is unloaded for a plan that holds, never to find out: requests go on with what was there."""

    async def body() -> None:
        planner = FakePlanner(room=1)
        async with pool(planner) as made:
            before = await made.load("echo", LoadOptions())
            planner.failure = MemoryShort("`echo` needs 9 GiB of RAM, 1 can be used")
            with pytest.raises(MemoryShort, match="needs 9 GiB") as info:
                await made.load("echo", LoadOptions(context_length=9999))
            assert "`echo` (1.00 GiB, would leave)" in str(info.value.hint)
            assert [item.pid for item in await made.loaded()] == [before.pid]
            assert text_of([event async for event in made.generate("echo", ask("hi"))]) == "hi"

    run(body())


def test_the_limit_unloads_nobody_in_vain() -> None:
    """Where the number of models is at its limit one leaves only for a model that can be loaded."""

    async def body() -> None:
        planner = FakePlanner(room=9)
        async with pool(planner, limit=2) as made:
            await load(made, "echo", "other")
            planner.failure = Malformed("it is cut short")
            with pytest.raises(Malformed):
                await load(made, "late")
            assert await names(made) == ["other", "echo"]
            planner.failure = None
            await load(made, "late")
            assert await names(made) == ["late", "other"]

    run(body())


def test_a_refusal_names_all_that_must_go() -> None:
    """Where no model makes room alone, all that must leave are named, with what they hold."""

    async def body() -> None:
        async with pool(FakePlanner(room=2)) as made:
            await load(made, "slow")
            await made.load("late", LoadOptions())
            async with (
                aclosing(made.generate("slow", ask(LONG))) as one,
                aclosing(made.generate("late", ask(LONG))) as two,
            ):
                await anext(one)
                await anext(two)
                with pytest.raises(MemoryShort) as info:
                    await load(made, "third")
            assert "`slow` (1.00 GiB, works), `late` (1.00 GiB, works)" in str(info.value.hint)
            assert "it fits once `slow`, `late` have left" in str(info.value.hint)

    run(body())
