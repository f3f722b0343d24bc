"""RunnerClient.connect: a runner is found, started, replaced, or its failure explained."""

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from qwenctl.errors import Conflict, RunnerUnavailable
from qwenctl.runner.client import RunnerClient, service_options
from qwenctl.runner.log import old_log
from qwenctl.runner.messages import LOG_NAME, LoadOptions
from qwenctl.settings import Settings
from tests.runner.runner_builders import LONG, SERVICE_PROGRAM, ask, eventually, service, settings_in, text_of

ON_DEMAND = (*SERVICE_PROGRAM, "60")


def end(client: RunnerClient, settings: Settings) -> None:
    """Ends a runner that was spawned, and waits for it."""
    client.shutdown()
    eventually(lambda: RunnerClient.running(settings) is None)


def test_a_runner_is_started_on_demand(tmp_path: Path) -> None:
    """The first client starts a runner of its own session; the second one finds it."""
    settings = settings_in(tmp_path)
    assert RunnerClient.running(settings) is None
    client = RunnerClient.connect(settings, ON_DEMAND)
    status = client.status()
    assert os.getsid(status.pid) != os.getsid(0)
    assert text_of(list(client.chat("echo", ask("hi")))) == "hi"
    assert RunnerClient.connect(settings, ON_DEMAND).status().pid == status.pid
    assert client.load("echo", LoadOptions(context_length=2048), float("inf")).expires_seconds is None
    assert client.stop() == ["echo"]
    end(client, settings)


def test_clients_that_start_at_once_share_a_runner(tmp_path: Path) -> None:
    """Four clients that find no runner at the same moment end up with the same one."""
    settings = settings_in(tmp_path)
    pids: list[int] = []

    def connect() -> None:
        pids.append(RunnerClient.connect(settings, ON_DEMAND).status().pid)

    threads = [threading.Thread(target=connect) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 4
    assert len(set(pids)) == 1
    end(RunnerClient(settings), settings)


def test_a_killed_runner_is_replaced(tmp_path: Path) -> None:
    """After `kill -9` of the runner the next client starts another one."""
    settings = settings_in(tmp_path)
    first = RunnerClient.connect(settings, ON_DEMAND).status().pid
    os.kill(first, signal.SIGKILL)
    eventually(lambda: RunnerClient.running(settings) is None)
    client = RunnerClient.connect(settings, ON_DEMAND)
    assert client.status().pid != first
    end(client, settings)


def test_an_idle_runner_of_another_version_is_replaced(tmp_path: Path) -> None:
    """A runner of another version leaves when it is idle; one that works is a conflict, and stays."""
    settings = settings_in(tmp_path)
    with service(settings, version="0.0.1") as (old, _):
        stream = old.chat("slow", ask(LONG))
        next(stream)
        with pytest.raises(Conflict, match=r"version 0\.0\.1 .* works"):
            RunnerClient.connect(settings, ON_DEMAND)
        stream.close()  # type: ignore[attr-defined]
        eventually(lambda: old.status().requests == 0)
        client = RunnerClient.connect(settings, ON_DEMAND)
        assert client.status().version != "0.0.1"
        end(client, settings)


def test_a_runner_of_another_store_is_replaced(tmp_path: Path) -> None:
    """The models of one store are not answered for with those of another."""
    settings = settings_in(tmp_path)
    elsewhere = Settings(store=tmp_path / "elsewhere", runtime=settings.runtime, state=settings.state)
    with service(elsewhere):
        client = RunnerClient.connect(settings, ON_DEMAND)
        assert client.status().store == str(settings.store)
        end(client, settings)


def test_a_serve_in_the_way_is_a_conflict(tmp_path: Path) -> None:
    """A `serve` of another version is somebody's terminal: it is named, not ended."""
    settings = settings_in(tmp_path)
    with service(settings, foreground=True, port=0, version="0.0.1") as (client, _):
        with pytest.raises(Conflict, match="qwenctl serve"):
            RunnerClient.connect(settings, ON_DEMAND)
        assert client.status().foreground


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("raise SystemExit('no luck today')", "ended with status 1\n  no luck today"),
        ("import time; time.sleep(30)", "is not ready after 0.3s"),
    ],
)
def test_a_runner_that_does_not_start_is_explained(tmp_path: Path, program: str, message: str) -> None:
    """The error has the end of the log, and the hint the place of the whole of it."""
    settings = settings_in(tmp_path)
    with pytest.raises(RunnerUnavailable, match=message) as caught:
        RunnerClient.connect(settings, (sys.executable, "-c", program), wait_seconds=0.3)
    assert str(settings.state / LOG_NAME) in str(caught.value.hint)


def test_a_program_that_is_missing_is_explained(tmp_path: Path) -> None:
    """A service program that does not exist says so."""
    with pytest.raises(RunnerUnavailable, match="cannot be started"):
        RunnerClient.connect(settings_in(tmp_path), ("/nowhere/qwenctl",))


def test_nobody_answers(tmp_path: Path) -> None:
    """A client whose runner has gone raises RunnerUnavailable."""
    with pytest.raises(RunnerUnavailable, match="does not answer"):
        RunnerClient(settings_in(tmp_path)).status()


def test_a_large_log_is_set_aside(tmp_path: Path) -> None:
    """A log beyond 4 MiB becomes the old one as soon as a runner has something to say."""
    settings = settings_in(tmp_path)
    settings.state.mkdir()
    (settings.state / LOG_NAME).write_bytes(b"x" * (4 * 1024 * 1024 + 1))
    client = RunnerClient.connect(settings, ON_DEMAND)
    eventually(lambda: old_log(settings.state / LOG_NAME).exists())
    assert (settings.state / LOG_NAME).stat().st_size < 10_000
    end(client, settings)


def test_service_options_spell_durations(tmp_path: Path) -> None:
    """The options of a spawned service parse back to the settings they came from."""
    assert "--keep-alive=300s" in service_options(settings_in(tmp_path))
    for_ever = Settings(tmp_path, tmp_path, tmp_path, keep_alive_seconds=float("inf"))
    assert "--keep-alive=forever" in service_options(for_ever)
