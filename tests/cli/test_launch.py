"""`qwenctl launch`: programs of the test's own, a real server, and what comes back."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.cli.conftest import Command
from tests.cli.schemas import check_output
from tests.cli.scripted_models import scripted_models
from tests.runner.runner_builders import NamedModels, eventually, service

QWENCTL = (sys.executable, "-m", "qwenctl")
RECORDER = f"""#!{sys.executable}
import json, os, signal, sys, time, urllib.request
out = os.environ["RECORD"]
base = os.environ.get("OPENAI_BASE_URL") or os.environ["ANTHROPIC_BASE_URL"] + "/v1"
key = os.environ.get("OPENAI_API_KEY") or os.environ["ANTHROPIC_AUTH_TOKEN"]
asked = urllib.request.Request(base + "/models", headers={{"Authorization": "Bearer " + key}})
models = [model["id"] for model in json.load(urllib.request.urlopen(asked))["data"]]
with open(out + ".draft", "w") as file:
    json.dump({{"argv": sys.argv[1:], "env": dict(os.environ), "models": models, "base": base}}, file)
os.rename(out + ".draft", out)
if "wait" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(44))
    open(out + ".waits", "w").close()
    time.sleep(60)
if "die" in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
print("the program speaks")
sys.exit(42)
"""

Recorded = Callable[[], Any]


@pytest.fixture
def programs(tmp_path: Path) -> Recorded:
    """`claude` and `codex` on PATH, which record how they were started; gives what was recorded."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("claude", "codex"):
        path = directory / name
        path.write_text(RECORDER)
        path.chmod(0o755)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    os.environ["RECORD"] = str(tmp_path / "record")
    return lambda: json.loads((tmp_path / "record").read_text())


@pytest.fixture
def stored(qwenctl: Command) -> Iterator[Command]:
    """The guide model is in the store; no server outlives the test."""
    assert qwenctl("pull", "guide").status == 0
    yield qwenctl
    eventually(lambda: RunnerClient.running(load_settings()) is None)


def launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run([*QWENCTL, "launch", *arguments], capture_output=True, text=True, timeout=60)


def test_a_server_lives_as_long_as_the_program(stored: Command, programs: Recorded) -> None:
    """It has the models of the store, on loopback; status and stdout are the program's."""
    os.environ["ANTHROPIC_API_KEY"] = "sk-of-another-account"
    done = launch("claude", "--", "--print", "hi")
    assert (done.returncode, done.stdout, done.stderr) == (42, "the program speaks\n", "")
    record = programs()
    assert record["argv"] == ["--print", "hi"]
    assert record["models"] == ["guide"]
    assert record["base"].startswith("http://127.0.0.1:")
    assert record["env"]["ANTHROPIC_MODEL"] == "guide"
    assert "ANTHROPIC_API_KEY" not in record["env"]


def test_a_missing_model_is_pulled(qwenctl: Command, programs: Recorded) -> None:
    """As `run` does."""
    assert launch("codex", "-m", "guide").returncode == 42
    assert programs()["models"] == ["guide"]
    assert 'model="guide"' in programs()["argv"]
    eventually(lambda: RunnerClient.running(load_settings()) is None)


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 43), (signal.SIGINT, 44)])
def test_signals_are_the_programs(
    stored: Command, programs: Recorded, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    """What `launch` gets it passes on, and it leaves as the program does."""
    with subprocess.Popen(
        [*QWENCTL, "launch", "codex", "--", "wait"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        eventually((tmp_path / "record.waits").exists, 30)
        child.send_signal(sent)
        _, err = child.communicate(timeout=30)
    assert (child.returncode, err) == (status, "")


def test_a_program_that_a_signal_ended(stored: Command, programs: Recorded) -> None:
    """Its status is what a shell would tell."""
    assert launch("codex", "--", "die").returncode == 128 + signal.SIGKILL


def test_a_killed_launch_leaves_no_server(stored: Command, programs: Recorded, tmp_path: Path) -> None:
    """Also after `kill -9`, which nothing can be done about."""
    with subprocess.Popen([*QWENCTL, "launch", "codex", "--", "wait"], start_new_session=True) as child:
        eventually((tmp_path / "record.waits").exists, 30)
        settings = load_settings()
        assert RunnerClient.running(settings) is not None
        os.killpg(child.pid, signal.SIGKILL)
    eventually(lambda: RunnerClient.running(settings) is None, 30)


def test_a_running_server_is_used(store_path: Path, programs: Recorded) -> None:
    """With the user's key; it stays."""
    with scripted_models(store_path):
        pass
    with service(load_settings(), NamedModels(), foreground=True, port=0, api_key="k1") as (client, ready):
        refused = launch("claude", "-m", "echo")
        assert refused.returncode == 4
        assert "QWENCTL_API_KEY" in refused.stderr
        os.environ["QWENCTL_API_KEY"] = "k1"
        assert launch("claude", "-m", "echo").returncode == 42
        assert client.status().pid == ready.pid
    record = programs()
    assert record["base"] == f"{ready.url}/v1"
    assert record["env"]["ANTHROPIC_AUTH_TOKEN"] == "k1"


def test_a_program_that_is_missing(qwenctl: Command) -> None:
    """Status 3 and how to have it; nothing was pulled or started."""
    os.environ["PATH"] = "/nowhere"
    shown = qwenctl("launch", "claude", "-m", "guide")
    assert (shown.status, shown.out) == (3, "")
    assert "npm install" in shown.err
    assert RunnerClient.running(load_settings()) is None


def test_a_dry_run_starts_nothing(stored: Command) -> None:
    """Command and variables as they would be typed; a key of the user's is not in them."""
    os.environ["QWENCTL_API_KEY"] = "k1-not-to-be-shown"
    shown = stored("launch", "codex", "--dry-run", "-m", "nope/never:1", "--", "exec", "say hi")
    assert shown.status == 0
    assert "OPENAI_BASE_URL=http://127.0.0.1:PORT/v1" in shown.out
    assert shown.out.splitlines()[-1].endswith("exec 'say hi'")
    document = stored("launch", "llm", "--dry-run", "--json")
    check_output("launch", document.out)
    plan = document.data["plan"]
    assert (plan["starts_server"], plan["model"]) == (True, "guide")
    assert "k1-not-to-be-shown" not in shown.out + document.out
    assert RunnerClient.running(load_settings()) is None


def test_config_is_for_good(stored: Command) -> None:
    """With the address that `serve` has, and a word that it does not run."""
    shown = stored("launch", "opencode", "--config")
    assert "http://127.0.0.1:12434/v1" in shown.out
    assert "qwenctl serve" in shown.err


def test_env_for_a_shell(stored: Command) -> None:
    """`eval "$(qwenctl launch env)"` sets them, with the key; fish has its own words."""
    os.environ["QWENCTL_API_KEY"] = "k1"
    lines = stored("launch", "env").out
    done = subprocess.run(
        ["sh", "-c", f'{lines}\necho "$OPENAI_BASE_URL $OPENAI_API_KEY $ANTHROPIC_MODEL"'],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "http://127.0.0.1:12434/v1 k1 guide\n"
    assert stored("launch", "env", "--shell", "fish").out.startswith("set -gx OPENAI_API_KEY 'k1'\n")
    check_output("launch", stored("launch", "env", "--json").out)


def test_all_programs_are_listed(qwenctl: Command, programs: Recorded) -> None:
    """Without a name; with what is installed."""
    shown = qwenctl("launch", "--json")
    check_output("launch", shown.out)
    installed = {program["name"]: program["installed"] for program in shown.data["programs"]}
    assert installed["claude"] is True
    assert installed["env"] is None
    assert "claude" in qwenctl("launch").out


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("cluade",), 3, "did you mean `claude`?"),
        (("codex", "--json", "-m", "guide"), 2, "--dry-run"),
        (("codex", "--dry-run"), 2, "--model"),
        (("env", "--shell", "csh", "-m", "guide"), 2, "fish"),
        (("codex", "--unknown"), 2, "launch --help"),
    ],
)
def test_what_cannot_be(qwenctl: Command, arguments: tuple[str, ...], status: int, words: str) -> None:
    """The hint is the next step."""
    shown = qwenctl("launch", *arguments)
    assert shown.status == status
    assert words in shown.out + shown.err


def test_files_are_private(stored: Command, tmp_path: Path) -> None:
    """They may hold a key."""
    directory = tmp_path / "bin2"
    directory.mkdir()
    (directory / "llm").write_text('#!/bin/sh\nls "$LLM_USER_PATH"\n')
    (directory / "llm").chmod(0o755)
    os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
    assert launch("llm").stdout.split() == ["extra-openai-models.yaml", "keys.json"]
    place = load_settings().state / "launch/llm"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place, place / "keys.json")] == [0o700, 0o600]
