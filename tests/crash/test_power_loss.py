"""The power goes: what is visible afterwards is whole, what was done stays done, what was begun goes on."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.oci.target import content_of
from qwenctl.store.disk import Disk
from qwenctl.store.store import Store
from tests.crash.conftest import Install
from tests.crash.crash_builders import (
    LOSS,
    MIB,
    LargeModel,
    Program,
    Started,
    large_model,
    list_names,
    noise,
    prove_content,
    prove_names,
    prove_whole,
    served,
)
from tests.crash.loop_disks import KINDS, LoopDisk, loop_disk
from tests.crash.slow_proxy import SlowProxy, slow_proxy

pytestmark = pytest.mark.slow

RATE: Final = 40 * MIB
FIRST: Final = large_model("first", 51, 60 * MIB, noise(52, 18 * MIB), noise(53, 2048))
SECOND: Final = large_model("second", 54, 24 * MIB, noise(52, 18 * MIB), noise(55, 3 * MIB))
SMALL: Final = large_model("small", 56, MIB)
IN_FLIGHT: Final = 8 * MIB
"""What the proxy had sent and the program had not read, or not written."""


@dataclass
class Bench:
    """A store on a disk whose power can be cut, and a registry that has two models."""

    disk: LoopDisk
    program: Program
    proxy: SlowProxy

    @property
    def store(self) -> Store:
        """The store as it is now."""
        return Store.open(self.program.store)

    @property
    def host(self) -> str:
        """The registry's address."""
        return self.proxy.address

    def pull(self, model: LargeModel) -> None:
        """Bring a model in, as fast as it goes."""
        self.proxy.rate = 0
        self.program.run("pull", "--no-check", model.at(self.host))

    def start(self, *arguments: str) -> Started:
        """Begin a command, over a slow line."""
        self.proxy.rate = RATE
        return self.program.start(*arguments)

    def crash(self, *working: Started) -> None:
        """Cut the power while some processes are at work; afterwards it is another day."""

        def stop() -> None:
            for item in working:
                item.kill()
                assert "Traceback" not in item.errors, item.errors

        self.disk.cut_power(stop)
        if not self.program.store.exists():
            return
        for path in self.program.store.glob("ingest/*.journal"):
            with suppress(ValueError):  # an empty one is one that the crash left
                path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))

    def prove(self) -> list[str]:
        """Everything visible is whole; the names."""
        if not (self.program.store / "oci-layout").exists():
            assert not list(self.program.store.glob("blobs/*/*"))
            return []
        prove_content(self.program.store)
        names = prove_names(self.store)
        assert sorted(list_names(self.program)) == sorted(names)
        return names


@pytest.fixture
def registry(install: Install) -> Iterator[str]:
    """A registry on a disk that lasts."""
    server = install("server")
    for model in (FIRST, SECOND):
        model.put(Store.open(server.store))
    with served(server, server.store) as (address, _):
        yield address


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path, install: Install, registry: str) -> Iterator[Bench]:
    """See `Bench`: one for each kind of file system."""
    with ExitStack() as stack:
        disk = stack.enter_context(loop_disk(tmp_path, request.param))
        proxy = stack.enter_context(slow_proxy(registry))
        yield Bench(disk, install("home", disk.path / "models" / "store"), proxy)


def test_a_pull_goes_on_after_the_power_was_cut(bench: Bench) -> None:
    """Cut at several moments of one pull: of each blob no more is fetched again than was at stake."""
    cuts = [0, 9, 30, 55, 75]
    for number, moved in enumerate(cuts):
        before = bench.proxy.body_bytes
        pull = bench.start("pull", "--no-check", FIRST.at(bench.host))
        bench.proxy.wait_for(max(before, moved * MIB))
        time.sleep(0.01 * number)
        bench.crash(pull)
        assert bench.prove() == []
    bench.pull(FIRST)
    assert bench.prove() == [FIRST.at(bench.host)]
    prove_whole(bench.store, FIRST, bench.host)
    for item in FIRST.contents:
        assert bench.proxy.sent(item.digest).twice <= len(cuts) * (LOSS + IN_FLIGHT), item


@pytest.mark.parametrize("moved", [20, 45, 60])
def test_one_cut_costs_little(bench: Bench, moved: int) -> None:
    """After one cut, at most what was at stake of a blob comes again."""
    pull = bench.start("pull", "--no-check", FIRST.at(bench.host))
    bench.proxy.wait_for(moved * MIB)
    arrived = {item.digest: bench.proxy.sent(item.digest).total for item in FIRST.contents}
    bench.crash(pull)
    bench.prove()
    bench.pull(FIRST)
    prove_whole(bench.store, FIRST, bench.host)
    for item in FIRST.contents:
        again = bench.proxy.sent(item.digest).twice
        assert again <= LOSS + IN_FLIGHT, (item, arrived[item.digest], again)


def test_what_was_pulled_stays(bench: Bench) -> None:
    """A pull that has ended with success is there after the crash, whole, in a store that it made itself."""
    bench.pull(FIRST)
    bench.crash()
    assert bench.prove() == [FIRST.at(bench.host)]
    prove_whole(bench.store, FIRST, bench.host)
    before = bench.proxy.body_bytes
    bench.pull(FIRST)
    assert bench.proxy.body_bytes == before


class DirtyDisk(Disk):
    """Leaves every name to the file system, as a process does that is killed just after a rename."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""


def test_what_a_killed_pull_had_published_stays(bench: Bench) -> None:
    """A name is given to content whose own names are not durable yet: then all of it is, or none.

    btrfs makes durable what is asked for and little else; there it needs several rounds to show.
    """
    SMALL.put(Store.open(bench.program.store))
    bench.crash()
    for number in range(8):
        model = large_model(f"m{number}", 60 + number, (number % 3 + 1) * 5 * MIB, noise(80 + number, MIB))
        killed = Store.open(bench.program.store, disk=DirtyDisk())
        for descriptor, raw in model.contents.items():
            killed.push(descriptor, content_of(raw))
        killed.push(model.manifest.descriptor, content_of(model.manifest.raw))
        with bench.store.protect(model.everything):
            bench.store.tag(model.manifest.descriptor, Reference.parse(model.at(bench.host)))
        bench.crash()
        prove_names(bench.store)
        prove_whole(bench.store, model, bench.host)


def test_names_stay_as_they_were_told(bench: Bench) -> None:
    """A tag that was given and a name that was removed are so after the crash, and a prune breaks nothing."""
    bench.pull(FIRST)
    bench.pull(SECOND)
    bench.program.run("tag", FIRST.at(bench.host), "mine:v1")
    bench.crash()
    mine = "docker.io/ai/mine:v1"
    assert sorted(bench.prove()) == sorted([FIRST.at(bench.host), SECOND.at(bench.host), mine])
    bench.program.run("rm", FIRST.at(bench.host))
    bench.crash()
    assert sorted(bench.prove()) == sorted([SECOND.at(bench.host), mine])
    bench.program.run("rm", "mine:v1")
    bench.program.run("prune", "--older-than", "0", "--force")
    bench.crash()
    assert bench.prove() == [SECOND.at(bench.host)]
    prove_whole(bench.store, SECOND, bench.host)


@pytest.mark.parametrize("verb", ["tag", "rm", "prune", "pull"])
def test_a_cut_at_any_moment_leaves_whole_names(bench: Bench, verb: str) -> None:
    """Cut while names and content change: each name is there or not, and all that are there are whole."""
    bench.pull(FIRST)
    bench.pull(SECOND)
    bench.program.run("tag", SECOND.at(bench.host), "mine:v1")
    for number in range(4):
        name = FIRST.at(bench.host)
        commands = {
            "tag": ("tag", SECOND.at(bench.host), f"mine:n{number}"),
            "rm": ("rm", name),
            "prune": ("prune", "--older-than", "0", "--force"),
            "pull": ("pull", "--no-check", name),
        }
        if verb != "tag":
            bench.store.untag(Reference.parse(name))
        if verb == "rm":
            bench.pull(FIRST)
        work = bench.start(*commands[verb])
        time.sleep(0.25 + 0.06 * number)
        bench.crash(work)
        assert {SECOND.at(bench.host), "docker.io/ai/mine:v1"} <= set(bench.prove())
        bench.pull(FIRST)
        prove_whole(bench.store, FIRST, bench.host)
    bench.program.run("verify")


def test_a_registry_keeps_what_it_took(bench: Bench, install: Install) -> None:
    """Cut while it is pushed to: nothing half. A push that has ended is kept."""
    sender = install("sender")
    FIRST.put(Store.open(sender.store))
    served_store = bench.disk.path / "served"
    name = str(Reference(DOCKER_HUB, "crash/first", "v1"))
    for moved in (10, 30, 50, None):
        with served(bench.program, served_store) as (upstream, server), slow_proxy(upstream, RATE) as proxy:
            Store.open(sender.store).tag(FIRST.manifest.descriptor, Reference.parse(FIRST.at(proxy.address)))
            push = sender.start("push", FIRST.at(proxy.address))
            if moved is None:
                assert push.end() == 0, push.errors
            else:
                proxy.wait_for_received(moved * MIB)
            bench.crash(server)
            push.kill()
            prove_content(served_store)
            assert prove_names(Store.open(served_store)) == ([name] if moved is None else [])
    assert prove_content(served_store) == len(FIRST.everything)
