"""Processes that are killed without warning, by chance; the long form is `python -m tests.crash.campaign`."""

import os
import time
from pathlib import Path

import pytest

from qwenctl.oci.reference import DOCKER_HUB, Reference
from qwenctl.store.store import Store
from tests.crash.campaign import IN_FLIGHT, campaign
from tests.crash.conftest import Install
from tests.crash.crash_builders import (
    MIB,
    large_model,
    noise,
    prove_content,
    prove_names,
    prove_whole,
    served,
)
from tests.crash.slow_proxy import slow_proxy

KILLS = int(os.environ.get("QWENCTL_TEST_KILLS", "40"))
RATE = 20 * MIB
PUSHED = large_model("pushed", 41, 40 * MIB, noise(42, 12 * MIB), noise(43, 2048))


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
def test_kills_lose_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After each kill the store is sound, and what was killed goes on where it was."""
    with campaign(tmp_path, "embedded", seed=int(time.time())) as it:
        seed = it.seed
        figures = it.run(KILLS)
    with capsys.disabled():
        print(f"\n{figures}\nseed {seed}")  # noqa: T201 - the figures of a campaign are what it is for
    assert figures.landed["in a blob"], "no kill came in the middle of a blob"


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_registry_dies_in_a_push(tmp_path: Path, install: Install, share: float) -> None:
    """The embedded registry is killed in the middle and started again: sound, and the next push succeeds."""
    server, program, other = install("server"), install("sender"), install("other")
    behind = Store.open(server.store)
    with served(server, behind.path) as (upstream, registry), slow_proxy(upstream, RATE) as proxy:
        PUSHED.put(Store.open(program.store), proxy.address)
        push = program.start("push", PUSHED.at(proxy.address))
        proxy.wait_for_received(int(PUSHED.size * share))
        registry.kill()
        prove_content(behind.path)
        assert prove_names(behind) == []
        proxy.rate = 0
        with served(server, behind.path, port=int(upstream.rpartition(":")[2])):
            assert push.end() in (0, 4)
            prove_content(behind.path)
            program.run("push", PUSHED.at(proxy.address))
            assert prove_names(behind) == [str(Reference(DOCKER_HUB, "crash/pushed", "v1"))]
            assert prove_content(behind.path) == len(PUSHED.everything)
            other.run("pull", "--no-check", PUSHED.at(proxy.address))
            prove_whole(Store.open(other.store), PUSHED, proxy.address)


@pytest.mark.slow
def test_a_registry_dies_in_a_pull(install: Install) -> None:
    """A registry that is back within some seconds costs a pull nothing but what was on its way."""
    server, program = install("server"), install("home")
    PUSHED.put(Store.open(server.store))
    with served(server, server.store) as (upstream, registry), slow_proxy(upstream, RATE) as proxy:
        pull = program.start("pull", "--no-check", PUSHED.at(proxy.address))
        proxy.wait_for(PUSHED.size // 2)
        registry.kill()
        with served(server, server.store, port=int(upstream.rpartition(":")[2])):
            assert pull.end() == 0, pull.errors
            prove_whole(Store.open(program.store), PUSHED, proxy.address)
            assert max(proxy.sent(item.digest).twice for item in PUSHED.contents) <= IN_FLIGHT
