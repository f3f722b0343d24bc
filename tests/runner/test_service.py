"""One life of the runner, seen by its client: who may live, who must leave, and what a stranger gets."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from qwenctl import __version__
from qwenctl.errors import Conflict, GenerationFailed, QwenctlError, RunnerUnavailable, WorkerDied
from qwenctl.runner.client import RunnerClient, service_options
from qwenctl.runner.messages import PREFIX, SOCKET_NAME
from qwenctl.runner.service import ServiceOptions, run
from tests.runner.runner_builders import (
    LONG,
    ROOT,
    SERVICE_PROGRAM,
    NamedModels,
    ask,
    eventually,
    service,
    settings_in,
    text_of,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunnerClient, str]]:
    """A runner for the tests that do not end it, and its address."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(ROOT))  # each test has it, but this starts before the first
        with service(settings_in(tmp_path_factory.mktemp("shared")), port=0) as (client, ready):
            yield client, str(ready.url)


@pytest.fixture
def client(shared: tuple[RunnerClient, str]) -> RunnerClient:
    """A client of the shared runner, with nothing loaded."""
    shared[0].stop()
    return shared[0]


def get(url: str, path: str, headers: dict[str, str]) -> tuple[int, Any]:
    """Status and JSON body of a GET over TCP."""
    with closing(HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as response:
            return response.status, json.loads(response.read())


def test_status_says_who_answers(tmp_path: Path) -> None:
    """The status names version, process, store and the TCP address; nothing is loaded at first."""
    settings = settings_in(tmp_path)
    with service(settings, port=0) as (client, ready):
        status = client.status()
        assert (status.version, status.pid, status.store) == (__version__, os.getpid(), str(settings.store))
        assert status.url == ready.url
        assert str(status.url).startswith("http://127.0.0.1:")
        assert (status.requests, status.models, status.foreground) == (0, 0, False)
        assert client.loaded() == []


def test_two_models_one_dies(client: RunnerClient) -> None:
    """`kill -9` of a worker in mid-stream is a clean error for its client; the other model never notices."""
    doomed, safe = client.chat("slow", ask(LONG)), client.chat("late", ask("safe"))
    next(doomed)
    next(safe)
    pids = {status.name: status.pid for status in client.loaded()}
    os.kill(pids["slow"] or 0, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="SIGKILL"):
        list(doomed)
    assert text_of(list(safe)) == "safe"
    assert text_of(list(client.chat("slow", ask("back")))) == "back"


def test_one_runner_per_socket(tmp_path: Path) -> None:
    """A second runner that is started on demand returns at once and leaves the first one alone."""
    settings = settings_in(tmp_path)
    with service(settings) as (client, _):
        began = time.monotonic()
        command = [*SERVICE_PROGRAM, "60", *service_options(settings)]
        assert subprocess.run(command, timeout=20, check=True).returncode == 0
        assert time.monotonic() - began < 5
        assert client.status().pid == os.getpid()


def test_a_stale_socket_is_no_obstacle(tmp_path: Path) -> None:
    """What a killed runner left behind neither answers nor blocks the next one."""
    settings = settings_in(tmp_path)
    settings.runtime.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(settings.runtime / SOCKET_NAME))
    assert RunnerClient.running(settings) is None
    with service(settings) as (client, _):
        assert client.status().models == 0


def test_it_leaves_when_idle(tmp_path: Path) -> None:
    """Without a request or a model for a while the runner ends and takes its socket along."""
    settings = settings_in(tmp_path)
    with service(settings, idle_seconds=0.3) as (client, _):
        list(client.chat("echo", ask("hi"), keep_alive_seconds=0.4))
        time.sleep(0.35)
        assert RunnerClient.running(settings) is not None  # a model is loaded
        eventually(lambda: not (settings.runtime / SOCKET_NAME).exists())


def test_serve_takes_over_from_an_idle_runner(tmp_path: Path) -> None:
    """`serve` asks the runner that was started on demand to leave, and lives in its place."""
    settings = settings_in(tmp_path)
    with service(settings) as (first, _):
        list(first.chat("echo", ask("hi")))
        with service(settings, foreground=True, port=0) as (client, _):
            assert client.status().foreground


def test_serve_does_not_disturb_a_working_runner(tmp_path: Path) -> None:
    """While the background runner answers somebody, `serve` is refused, and the answer goes on."""
    settings = settings_in(tmp_path)
    with service(settings) as (client, _):
        stream = client.chat("slow", ask("an answer of thirty characters"))
        next(stream)
        with pytest.raises(Conflict, match="works on 1 request"):
            run(settings, NamedModels(), ServiceOptions(foreground=True, port=0))
        assert text_of(list(stream)) == "an answer of thirty characters"


def test_one_serve_per_user(tmp_path: Path) -> None:
    """A second `serve` is refused with the process and the address of the first."""
    settings = settings_in(tmp_path)
    with service(settings, foreground=True, port=0) as (client, ready):
        with pytest.raises(Conflict, match=f"process {os.getpid()}") as caught:
            run(settings, NamedModels(), ServiceOptions(foreground=True, port=0))
        assert str(ready.url) in str(caught.value.hint)
        assert client.status().foreground


def test_a_taken_port_leaves_no_socket(tmp_path: Path) -> None:
    """A `serve` whose port is taken is refused before anything of it can be seen."""
    settings = settings_in(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Conflict, match="in use"):
        run(settings, NamedModels(), ServiceOptions(foreground=True, port=taken.getsockname()[1]))
    assert not (settings.runtime / SOCKET_NAME).exists()


def test_closing_a_chat_frees_the_model(client: RunnerClient) -> None:
    """A client that goes in mid-answer cancels it: the model is idle long before the text would end."""
    stream = client.chat("slow", ask(LONG))
    next(stream)
    assert client.status().requests == 1
    stream.close()  # type: ignore[attr-defined]
    eventually(lambda: client.status().requests == 0, seconds=2)
    [status] = client.loaded()
    assert (status.requests, status.state) == (0, "ready")


def test_a_load_that_its_client_leaves(shared: tuple[RunnerClient, str], client: RunnerClient) -> None:
    """A client that goes while its model loads holds nothing; with keep-alive 0 the load ends too."""
    body = b'{"model": "very-late", "keep_alive": 0}'
    head = f"POST {PREFIX}/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    port = int(shared[1].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + body)
        eventually(lambda: client.status().requests == 1)
    eventually(lambda: client.status().models == 0)


def test_errors_keep_class_message_and_hint(client: RunnerClient) -> None:
    """What the runner refuses arrives as the same class, before and within a stream."""
    with pytest.raises(QwenctlError, match="`refused` is not a model") as caught:
        client.load("refused")
    assert (caught.value.code, caught.value.hint) == ("load_failed", "pull it again")
    stream = client.chat("slow", ask(LONG))
    next(stream)
    assert client.stop() == ["slow"]
    with pytest.raises((GenerationFailed, WorkerDied)):
        list(stream)


def test_sigterm_drains(tmp_path: Path) -> None:
    """After SIGTERM the answer under way is finished, no new one begins, and the status is 0."""
    settings = settings_in(tmp_path)
    with subprocess.Popen([*SERVICE_PROGRAM, "60", *service_options(settings)]) as program:
        eventually(lambda: RunnerClient.running(settings))
        client = RunnerClient(settings)
        stream = client.chat("slow", ask("an answer of thirty characters"))
        next(stream)
        program.send_signal(signal.SIGTERM)
        eventually(lambda: RunnerClient.running(settings) is None)
        assert text_of(list(stream)) == "an answer of thirty characters"
        assert program.wait(10) == 0


def test_the_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """Ctrl-C waits for the answers under way; a second one ends them with an error, long before the drain."""
    settings = settings_in(tmp_path)
    with subprocess.Popen([*SERVICE_PROGRAM, "60", *service_options(settings)]) as program:
        eventually(lambda: RunnerClient.running(settings))
        stream = RunnerClient(settings).chat("slow", ask(LONG))
        next(stream)
        program.send_signal(signal.SIGINT)
        eventually(lambda: RunnerClient.running(settings) is None)
        next(stream)
        program.send_signal(signal.SIGINT)
        with pytest.raises((GenerationFailed, WorkerDied)):
            list(stream)
        assert program.wait(10) == 0


def test_the_drain_has_an_end(tmp_path: Path) -> None:
    """An answer that outlasts the drain is ended with an error."""
    with service(settings_in(tmp_path), drain_seconds=0) as (client, _):
        stream = client.chat("slow", ask(LONG))
        next(stream)
        client.shutdown()
        with pytest.raises((GenerationFailed, WorkerDied)):
            list(stream)


def test_a_killed_runner_breaks_its_streams_cleanly(tmp_path: Path) -> None:
    """`kill -9` of the runner is RunnerUnavailable for its clients, and its workers end by themselves."""
    settings = settings_in(tmp_path)
    with subprocess.Popen([*SERVICE_PROGRAM, "60", *service_options(settings)]) as program:
        eventually(lambda: RunnerClient.running(settings))
        client = RunnerClient(settings)
        stream = client.chat("slow", ask(LONG))
        next(stream)
        [status] = client.loaded()
        program.kill()
        with pytest.raises(RunnerUnavailable):
            list(stream)
        eventually(lambda: not _lives(status.pid or 0))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_pages_of_other_sites_are_refused(shared: tuple[RunnerClient, str]) -> None:
    """The TCP port answers to loopback names only; the guard's own table is in tests/api."""
    assert get(shared[1], "/health", {}) == (200, {"status": "ok"})
    assert get(shared[1], "/health", {"Host": "evil.example"})[0] == 403


def test_unknown_paths_are_json_errors(shared: tuple[RunnerClient, str]) -> None:
    """A path without a door is 404 with a body that clients of the OpenAI API understand."""
    status, body = get(shared[1], "/v2/nothing", {})
    assert status == 404
    assert "`/v2/nothing`" in body["error"]["message"]
