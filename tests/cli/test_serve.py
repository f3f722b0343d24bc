"""`qwenctl serve`: the runner as a person starts it, and what it says about who can reach it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Command

KEY = "a-long-and-secret-key"


@contextmanager
def served(*options: str, key: str | None = None) -> Iterator[Any]:
    """A server as a process: its line once it is ready; it ends in order, and without a word for a person."""
    command = [sys.executable, "-m", "qwenctl", "serve", "--port", "0", "--json", *options]
    environment = {**os.environ, **({"QWENCTL_API_KEY": key} if key else {})}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        try:
            yield json.loads(server.stdout.readline())
        finally:
            server.send_signal(signal.SIGINT)
            rest = server.stdout.read()
        assert (server.wait(15), server.stderr.read()) == (0, "")
        assert json.loads(rest.splitlines()[-1])["status"] == "ok"


def test_the_key_may_come_from_the_environment(store_path: Path) -> None:
    """Then clients need it, and the server does not say it."""
    with served(key=KEY) as ready:
        assert httpx.get(f"{ready['url']}/v1/models").status_code == 401
        with_key = httpx.get(f"{ready['url']}/v1/models", headers={"Authorization": f"Bearer {KEY}"})
        assert with_key.status_code == 200
        assert KEY not in json.dumps(ready)


@pytest.mark.parametrize("as_flag", [True, False])
def test_the_key_may_come_from_a_file(store_path: Path, tmp_path: Path, as_flag: bool) -> None:
    """Named by a flag, which goes before the variable, or by the setting; the line break does not count."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    if not as_flag:
        os.environ["QWENCTL_API_KEY_FILE"] = str(file)
    options = ("--api-key-file", str(file)) if as_flag else ()
    with served(*options, key="another" if as_flag else None) as ready:
        answer = httpx.get(f"{ready['url']}/v1/models", headers={"x-api-key": KEY})
        assert answer.status_code == 200


def test_a_command_needs_no_key(qwenctl: Command) -> None:
    """`status` and `ps` of the same user reach it by its private socket."""
    with served("--host", "0.0.0.0", key=KEY) as ready:
        runner = qwenctl("status", "--json").data["runner"]
        assert (runner["url"], runner["address"]) == (ready["url"], ready["address"])
        assert ready["address"].startswith("0.0.0.0:")
        assert qwenctl("ps").status == 0


@pytest.mark.parametrize(
    ("options", "code", "status"),
    [
        (("--host", "0.0.0.0"), "usage", 2),
        (("--host", "::"), "usage", 2),
        (("--host", "a b"), "invalid_settings", 2),
        (("--api-key", ""), "invalid_settings", 2),
        (("--api-key", "two words"), "invalid_settings", 2),
        (("--api-key", "schlüssel"), "invalid_settings", 2),
        (("--api-key-file", "/nowhere/key"), "file_missing", 3),
        (("--cors", "example.com"), "invalid_settings", 2),
        (("--cors", "https://a.example/path"), "invalid_settings", 2),
        (("--request-timeout", "0"), "invalid_settings", 2),
        (("--request-timeout", "soon"), "invalid_settings", 2),
        (("--max-models", "0"), "usage", 2),
        (("--max-queue", "0"), "usage", 2),
    ],
)
def test_what_cannot_be(qwenctl: Command, options: tuple[str, ...], code: str, status: int) -> None:
    """Each is refused before anything listens."""
    shown = qwenctl("serve", "--port", "0", *options, "--json")
    assert (shown.status, shown.document["errors"][0]["code"]) == (status, code)


def test_a_refused_key_is_not_repeated(qwenctl: Command) -> None:
    """An error about a key does not have it in it."""
    shown = qwenctl("serve", "--port", "0", "--api-key", "not a key")
    assert "not a key" not in shown.err + shown.out


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        ((), None, ["who can use it: any program on this machine"]),
        ((), KEY, ["who can use it: programs on this machine that have the key"]),
        (
            ("--host", "0.0.0.0"),
            KEY,
            ["everyone on any network of this machine who has the key", "nothing is encrypted"],
        ),
        (("--cors", "*"), None, ["and any web page that you open"]),
        (
            ("--cors", "https://a.example", "--cors", "https://b.example"),
            KEY,
            ["and web pages of https://a.example, https://b.example, with the key"],
        ),
    ],
)
def test_it_says_who_can_reach_it(
    store_path: Path, options: tuple[str, ...], key: str | None, said: list[str]
) -> None:
    """On stderr, for a person: where it listens, and who may come."""
    command = [sys.executable, "-m", "qwenctl", "serve", "--port", "0", *options]
    environment = {**os.environ, **({"QWENCTL_API_KEY": key} if key else {})}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr is not None
        lines = [server.stderr.readline()]
        while said[-1] not in lines[-1]:
            assert lines[-1]
            lines.append(server.stderr.readline())
        server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0
    assert lines[0].startswith("serving on http://127.0.0.1:")
    assert all(any(text in line for line in lines) for text in said)
