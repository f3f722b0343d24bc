"""`qwenctl registry serve`: the store as a registry for others."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A registry of its own, over an empty store, as a process."""
    command = [sys.executable, "-m", "qwenctl", "registry", "serve", "--json", "--port", "0"]
    with subprocess.Popen(
        [*command, "--store", str(tmp_path / "served")], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield json.loads(server.stdout.readline())["address"]
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(15) == 0
        assert json.loads(server.stdout.read().splitlines()[-1])["status"] == "ok"


def test_others_pull_and_push(qwenctl: Command, address: str) -> None:
    """The built-in models are served too; what is pushed can be pulled."""
    pulled = qwenctl("pull", f"{address}/guide:Q4_K_M", "--json").data
    assert pulled["blobs_moved"] == 3
    assert qwenctl("pull", "guide:Q4_K_M", "--json").data["moved_bytes"] == 0
    assert qwenctl("tag", "guide:Q4_K_M", f"{address}/me/copy:v1").status == 0
    assert qwenctl("push", f"{address}/me/copy:v1", "--json").data["id"] == pulled["id"]
    os.environ["QWENCTL_STORE"] += "-other"
    assert qwenctl("pull", f"{address}/me/copy:v1", "--json").data["id"] == pulled["id"]


def test_an_unknown_tag_there(qwenctl: Command, address: str) -> None:
    """Exit status 3."""
    assert qwenctl("pull", f"{address}/guide:nope").status == 3


def test_a_port_that_is_taken(qwenctl: Command, address: str) -> None:
    """Exit status 2 and how to choose another."""
    shown = qwenctl("registry", "serve", "--port", address.partition(":")[2])
    assert shown.status == 2
    assert "--port" in shown.err
