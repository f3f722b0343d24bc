"""`run` at a terminal: the conversation over a real runner, with scripted workers."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive
from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.chat.screens import Screen, screen_of
from tests.cli.scripted_models import scripted_models
from tests.runner.runner_builders import LONG, eventually

Open = Callable[..., Screen]


@pytest.fixture(autouse=True)
def runner(store_path: Path) -> Iterator[RunnerClient]:
    """Scripted models and their runner."""
    with scripted_models(store_path) as client:
        yield client


@pytest.fixture
def open_run() -> Iterator[Open]:
    """`qwenctl run …` in a terminal, begun."""
    with ExitStack() as stack:

        def begin(*arguments: str, **variables: str) -> Screen:
            argv = [sys.executable, "-m", "qwenctl", "run", *arguments]
            screen = stack.enter_context(screen_of(argv, **variables))
            screen.prompt()
            return screen

        yield begin


def archive() -> Archive:
    """The saved chats of this test."""
    return Archive(load_settings().state / "chats")


def test_a_conversation(open_run: Open) -> None:
    """Greeting, answer, the quiet line, the end."""
    screen = open_run("echo")
    screen.keys("hello\r")
    screen.wait("hello\r\n")
    screen.wait("context 10 of ")
    screen.prompt()
    screen.keys("/bye\r")
    assert screen.end() == 0


def test_ctrl_c_frees_the_engine(open_run: Open, runner: RunnerClient) -> None:
    """The runner has nothing left to do, and the model answers the next question."""
    screen = open_run("slow")
    screen.keys(f"{LONG}\r")
    screen.wait("…\rso it goes")
    assert runner.loaded()[0].requests == 1
    screen.keys("\x03")
    screen.wait("stopped; Ctrl-C again leaves")
    eventually(lambda: runner.loaded()[0].requests == 0)
    screen.prompt()
    screen.keys("on?\r")
    screen.wait("on?\r\n")
    screen.wait("tokens/s")


def test_another_model_and_another_context(open_run: Open, runner: RunnerClient) -> None:
    """`/model` and `/set context` load; what cannot be changes nothing."""
    screen = open_run("echo")
    screen.keys("/model other\r")
    screen.wait("other answers from here on")
    screen.prompt()
    screen.keys("/set context 256\r")
    screen.wait("context: 256")
    screen.prompt()
    screen.keys("/model refused\r")
    screen.wait("`refused` is not a model")
    screen.prompt()
    screen.keys("still here\r")
    screen.wait("of 256")
    assert "other" in {status.name for status in runner.loaded()}


def test_a_model_that_dies(open_run: Open, runner: RunnerClient) -> None:
    """It is told, what came is kept, and it is loaded again for the next question."""
    screen = open_run("slow")
    screen.keys(f"{LONG}\r")
    screen.wait("…\rso it goes")
    (status,) = runner.loaded()
    assert status.pid is not None
    os.kill(status.pid, signal.SIGKILL)
    screen.wait("error: ")
    screen.prompt()
    screen.keys("again\r")
    screen.wait("again\r\n")
    screen.wait("tokens/s")


def test_a_chat_goes_on_after_a_kill(open_run: Open) -> None:
    """`--continue` shows the last words and has all of them; `--resume` finds it without its model."""
    first = open_run("echo")
    first.keys("remember\r")
    first.wait("tokens/s")
    first.prompt()
    first.child.kill()
    first.child.wait()
    second = open_run("echo", "--continue")
    assert ">>> remember" in second.raw
    second.keys("more\r")
    second.wait("tokens/s")
    second.prompt()
    (chat,) = archive().chats()[0]
    assert [turn.text for turn in chat.turns] == ["remember", "remember", "more", "more"]
    third = open_run("--resume", chat.id[:4], "--system", "be brief")
    third.keys("/show\r")
    third.wait(f"{chat.id}, 4 messages")


@pytest.mark.parametrize(
    ("flags", "variables"),
    [(("--no-save",), {}), ((), {"QWENCTL_NO_SAVE": "1"}), ((), {"QWENCTL_SAVE_CHATS": "no"})],
)
def test_nothing_is_kept(open_run: Open, flags: tuple[str, ...], variables: dict[str, str]) -> None:
    """By the flag, by the environment, or by the setting."""
    screen = open_run("echo", *flags, **variables)
    screen.keys("secret\r")
    screen.wait("tokens/s")
    screen.prompt()
    screen.keys("\x04")
    assert screen.end() == 0
    assert archive().chats() == ([], [])
    assert not (load_settings().state / "history").exists()


def test_stderr_may_be_a_file(tmp_path: Path) -> None:
    """What is said about the conversation goes there, without control sequences; answers do not."""
    log = tmp_path / "log"
    program = f"exec {sys.executable} -m qwenctl run echo 2>{log}"
    with screen_of(["bash", "-c", program]) as screen:
        screen.prompt()
        screen.keys("hello\r")
        screen.wait("\r\r\nhello\r\n")
        screen.prompt()
        screen.keys("\x04")
        assert screen.end() == 0
    assert "context 10 of" in log.read_text()
    assert "\x1b" not in log.read_text()


def test_without_colours(open_run: Open) -> None:
    """`NO_COLOR` leaves the answer and what is around it plain."""
    screen = open_run("echo", NO_COLOR="1")
    begun = len(screen.raw)
    screen.keys("**bold**\r")
    screen.wait("of ")
    assert "\x1b[2m" not in screen.raw[begun:]
