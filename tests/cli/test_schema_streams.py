"""What the runner's commands print, held against their schemas: one service, one model, all doors."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.cli.contract import CONTRACTS
from tests.cli.conftest import Command
from tests.cli.schemas import check_output
from tests.cli.test_schema import OUTPUTS

SERVED = [
    ("run", ("run", "guide", "What is a tag?", "--max-tokens", "4")),
    ("ps", ("ps",)),
    ("status", ("status",)),
    ("host", ("host",)),
    ("configure", ("configure", "guide", "--keep-alive", "9m")),
    ("configure", ("configure", "guide", "--context", "x")),
    ("requests", ("requests",)),
    ("requests", ("requests", "nope")),
    ("logs", ("logs",)),
    ("logs", ("logs", "--tail", "x")),
    ("rm", ("rm", "guide")),
    ("purge", ("purge",)),
    ("stop", ("stop", "nope")),
    ("chats export", ("chats", "export", "nope")),
    ("chats rm", ("chats", "rm", "--all")),
]
ELSEWHERE = {"serve", "registry serve", "package", "push", "bench", "launch"}
"""Held by tests of their own, as all of `context` is: below, in `test_schema`, and under their names."""


def _start(*arguments: str) -> "subprocess.Popen[str]":
    program = [sys.executable, "-m", "qwenctl", *arguments, "--port", "0", "--json"]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _end(service: "subprocess.Popen[str]", first: str) -> str:
    """All that it printed, `first` included, after Ctrl-C; nothing of it is on stderr."""
    service.send_signal(signal.SIGINT)
    out, _ = service.communicate(timeout=30)
    return first + out


@pytest.mark.slow
def test_the_runners_commands(qwenctl: Command) -> None:
    """While `serve` runs in the foreground; its own lines are checked when it has ended."""
    assert qwenctl("pull", "guide").status == 0
    with _start("serve") as service:
        assert service.stdout is not None
        first = service.stdout.readline()
        try:
            for command, arguments in SERVED:
                check_output(command, qwenctl(*arguments, "--json").out)
            assert qwenctl("purge", "--yes", "--json").data["stopped"] == ["guide"]
            assert qwenctl("ps", "-q").out == ""
        finally:
            out = _end(service, first)
    check_output("serve", out)
    assert json.loads(first)["event"] == "ready"


def test_the_registry(store_path: Path) -> None:
    """`registry serve`: a line when it answers, the envelope when it ends."""
    with _start("registry", "serve") as service:
        assert service.stdout is not None
        out = _end(service, service.stdout.readline())
    check_output("registry serve", out)
    assert len(out.splitlines()) == 2


def test_no_command_is_left_out() -> None:
    """Each is run by a test that holds its output against its schema."""
    checked = {command for command, _ in [*OUTPUTS, *SERVED]}
    contexts = {command for command in CONTRACTS if command.startswith("context ")}
    assert checked | contexts | ELSEWHERE == set(CONTRACTS)
