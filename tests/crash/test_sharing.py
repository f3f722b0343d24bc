"""Two processes and one download: they share it, also when one goes; without locks nothing is damaged."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from qwenctl.errors import Interrupted
from qwenctl.store.store import Store
from tests.crash.conftest import Install
from tests.crash.crash_builders import (
    MIB,
    ROOT,
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
from tests.crash.slow_proxy import SlowProxy, slow_proxy

pytestmark = pytest.mark.slow

RATE: Final = 25 * MIB
MODEL: Final = large_model("shared", 71, 36 * MIB, noise(72, 12 * MIB), noise(73, 4096))
SMALL: Final = large_model("small", 74, 2 * MIB, noise(72, 12 * MIB))
IN_FLIGHT: Final = 8 * MIB


@pytest.fixture
def proxy(install: Install) -> Iterator[SlowProxy]:
    """A slow line to a registry that has the models."""
    server = install("server")
    for model in (MODEL, SMALL):
        model.put(Store.open(server.store))
    with served(server, server.store) as (address, _), slow_proxy(address, RATE) as line:
        yield line


def pull(program: Program, proxy: SlowProxy, *options: str) -> Started:
    """Begin to pull."""
    return program.start("pull", "--no-check", MODEL.at(proxy.address), *options)


def prove(program: Program, proxy: SlowProxy) -> None:
    """The model is there, everything is whole, and nothing of a download is left."""
    store = Store.open(program.store)
    prove_whole(store, MODEL, proxy.address)
    prove_content(program.store)
    assert prove_names(store) == list_names(program)
    assert not list(store.layout.ingests.iterdir())


def test_two_pulls_share_one_download(install: Install, proxy: SlowProxy) -> None:
    """The server sends everything once; both succeed."""
    program = install()
    both = [pull(program, proxy) for _ in range(2)]
    assert [item.end() for item in both] == [0, 0]
    assert proxy.body_bytes == MODEL.size
    prove(program, proxy)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_the_other_goes_on(install: Install, proxy: SlowProxy, number: signal.Signals) -> None:
    """When the one that downloads is killed, stopped with Ctrl-C or ended, the other goes on where it was."""
    program = install()
    first = pull(program, proxy)
    proxy.wait_for(10 * MIB)
    second = pull(program, proxy)
    time.sleep(0.5)
    os.kill(first.child.pid, number)
    status = first.end()
    if number == signal.SIGINT:
        assert status == Interrupted.exit_code
        assert f"`qwenctl pull {MODEL.at(proxy.address)}` goes on from there" in first.errors
    assert second.end() == 0, second.errors
    assert proxy.body_bytes - MODEL.size <= IN_FLIGHT
    prove(program, proxy)


def test_one_that_waits_can_be_stopped(install: Install, proxy: SlowProxy) -> None:
    """Ctrl-C ends the one that only waits, too; the download goes on."""
    program = install()
    first = pull(program, proxy)
    proxy.wait_for(5 * MIB)
    second = pull(program, proxy)
    time.sleep(0.8)
    second.child.send_signal(signal.SIGINT)
    assert second.end() == Interrupted.exit_code
    assert first.child.poll() is None
    assert first.end() == 0, first.errors
    assert proxy.body_bytes == MODEL.size
    prove(program, proxy)


def test_ctrl_c_before_the_server_answers(install: Install) -> None:
    """Ctrl-C ends a pull whose server says nothing."""
    import socket

    program = install()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        waiting = program.start("pull", MODEL.at(host))
        connection, _ = silent.accept()
        with connection:
            time.sleep(0.3)
            waiting.child.send_signal(signal.SIGINT)
            assert waiting.end(20) == Interrupted.exit_code


def without_locks(install: Install) -> Program:
    """The program on a file system whose locks do nothing."""
    program = install()
    program.environ["PYTHONPATH"] = f"{Path(__file__).parent / 'no_locks'}{os.pathsep}{ROOT}"
    return program


@pytest.mark.parametrize("delay_seconds", [0.0, 0.3, 0.9])
def test_without_locks_nothing_is_damaged(install: Install, proxy: SlowProxy, delay_seconds: float) -> None:
    """Where locks do nothing two pulls cost two downloads at most, and both end well."""
    program = without_locks(install)
    first = pull(program, proxy)
    time.sleep(delay_seconds)
    second = pull(program, proxy)
    statuses = [first.end(), second.end()]
    prove_content(program.store)
    prove_names(Store.open(program.store))
    assert proxy.body_bytes <= 2 * MODEL.size
    assert statuses == [0, 0], first.errors + second.errors
    prove(program, proxy)


def test_without_locks_a_kill_damages_nothing(install: Install, proxy: SlowProxy) -> None:
    """Where locks do nothing and one of three is killed, nothing is wrong, and the next pull ends well."""
    program = without_locks(install)
    several = [pull(program, proxy) for _ in range(3)]
    proxy.wait_for(30 * MIB)
    several[0].kill()
    program.start("prune", "--older-than", "0", "--force").end()
    for item in several[1:]:
        item.end()
    prove_content(program.store)
    prove_names(Store.open(program.store))
    program.run("pull", "--no-check", MODEL.at(proxy.address))
    prove_whole(Store.open(program.store), MODEL, proxy.address)
