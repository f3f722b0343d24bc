"""`run` with a prompt: the answer alone on stdout, in a pipe, in JSON, interrupted, in a terminal."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qwenctl.chat.archive import Archive
from qwenctl.cli.wiring import load_settings
from qwenctl.runner.client import RunnerClient
from tests.chat.screens import COLOUR, screen_of
from tests.cli.conftest import Command
from tests.cli.scripted_models import scripted_models
from tests.runner.runner_builders import LONG, eventually

QWENCTL = (sys.executable, "-m", "qwenctl")
THOUGHT = "<think>\nhm\n</think>\n\nso"


@pytest.fixture(autouse=True)
def runner(store_path: Path) -> Iterator[RunnerClient]:
    """Scripted models and their runner."""
    with scripted_models(store_path) as client:
        yield client


def is_idle(client: RunnerClient) -> bool:
    """Whether no model works."""
    return all(status.requests == 0 for status in client.loaded())


@pytest.mark.parametrize(
    ("arguments", "piped", "transcript"),
    [
        (("echo", "hi"), "", (0, "hi\n", "")),
        (("echo", "two", "words"), "", (0, "two words\n", "")),
        (("echo",), "from a pipe\n", (0, "from a pipe\n", "")),
        (("echo", "look:"), "one\ntwo\n", (0, "look:\n\none\ntwo\n", "")),
        (("echo", "ends so\n"), "", (0, "ends so\n", "")),
        (("echo", "\x1b[31mred"), "", (0, "\x1b[31mred\n", "")),
        (("echo", THOUGHT), "", (0, "so\n", "")),
        (("echo", "hi", "--max-tokens", "1"), "", (0, "h\n", "")),
        (("echo", "hi", "--system", "be brief", "--temperature", "0", "--top-k", "1"), "", (0, "hi\n", "")),
        (("echo", "--detach"), "", (0, "loaded echo\n", "")),
        (
            ("echo",),
            "",
            (2, "", "error: there is nothing to ask\nhint: give a prompt, or pipe one in\n"),
        ),
        (
            (),
            "hi",
            (2, "", "error: there is no model\nhint: `qwenctl list` and `qwenctl show` have their names\n"),
        ),
        (
            ("echo", "hi", "--repeat-penalty", "0"),
            "",
            (
                2,
                "",
                "error: `repeat_penalty` is 0.0, outside 1e-06 to 100\nhint: see `qwenctl run --help`\n",
            ),
        ),
        (("echo", "caf\udce9"), "", (0, "caf\ufffd\n", "")),
        (
            ("echo", "hi", "--detach"),
            "",
            (2, "", "error: `--detach` only loads: it has no prompt\nhint: leave one of them out\n"),
        ),
        (
            ("echo", "hi", "--parallel", "0"),
            "",
            (2, "", "error: `--parallel` cannot be `0`\nhint: the least is 1\n"),
        ),
        (
            ("echo", "hi", "--lora", "absent.gguf:0.5"),
            "",
            (3, "", "error: the adapter `absent.gguf` does not exist\n"),
        ),
    ],
    ids=str,
)
def test_transcripts(
    qwenctl: Command, arguments: tuple[str, ...], piped: str, transcript: tuple[int, str, str]
) -> None:
    """Status, stdout and stderr without a terminal: nothing but the answer, thoughts left out."""
    shown = qwenctl("run", *arguments, piped=piped)
    assert (shown.status, shown.out, shown.err) == transcript


def test_json(qwenctl: Command) -> None:
    """One document, thoughts and answer apart; with `--detach` the model that was loaded."""
    data = qwenctl("run", "echo", THOUGHT, "--json").data
    assert (data["text"], data["thinking"], data["reason"]) == ("so", "hm", "stop")
    assert data["usage"]["completion_tokens"] == len(THOUGHT)
    data = qwenctl("run", "echo", "--detach", "--json").data
    assert (data["model"], data["text"], data["reason"], data["usage"]) == ("echo", "", "loaded", None)


def test_stats_go_to_stderr(qwenctl: Command) -> None:
    """The answer stays alone on stdout."""
    shown = qwenctl("run", "echo", "hi", "--stats")
    assert shown.out == "hi\n"
    assert shown.err.startswith("Prompt:  2 tokens, 0 of them cached")
    assert "\nAnswer:  2 tokens" in shown.err


def test_options_of_the_load(qwenctl: Command, runner: RunnerClient) -> None:
    """They reach the runner."""
    shown = qwenctl(
        "run", "echo", "hi", "--context", "64", "--parallel", "2", "--threads", "1", "--gpu-layers", "0"
    )
    assert (shown.status, shown.out) == (0, "hi\n")
    (status,) = runner.loaded()
    assert status.model is not None
    assert (status.model.context_length, status.model.slots) == (64, 2)
    assert (status.options.threads, status.options.gpu_layers) == (1, 0)


def test_adapters(qwenctl: Command, runner: RunnerClient, tmp_path: Path) -> None:
    """As absolute paths with their scales; a colon may belong to the name."""
    for name in ("a.gguf", "b:1.gguf"):
        (tmp_path / name).write_text("")
    flags = ("--lora", f"{tmp_path}/a.gguf:0.5", "--lora", f"{tmp_path}/b:1.gguf")
    assert qwenctl("run", "echo", "hi", *flags).status == 0
    (status,) = runner.loaded()
    adapters = [(adapter.path, adapter.scale) for adapter in status.options.adapters]
    assert adapters == [(f"{tmp_path}/a.gguf", 0.5), (f"{tmp_path}/b:1.gguf", 1.0)]


@pytest.mark.parametrize(
    ("content", "status"),
    [(None, 3), ("{", 2), ('{"not": {"type": "string"}}', 2), ('{"type": "object"}', 0)],
)
def test_a_schema_from_a_file(qwenctl: Command, tmp_path: Path, content: str | None, status: int) -> None:
    """What is absent, no JSON, or more than a grammar can say is refused before anything is asked."""
    path = tmp_path / "schema.json"
    if content is not None:
        path.write_text(content)
    shown = qwenctl("run", "echo", "hi", "--format", str(path))
    assert shown.status == status
    assert status == 0 or (shown.out == "" and "schema.json" in shown.err)


def test_ctrl_c_ends_with_130(runner: RunnerClient) -> None:
    """What came stays on stdout, the model is stopped."""
    with subprocess.Popen(
        [*QWENCTL, "run", "slow", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read(5) == "so it"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    assert (child.returncode, err) == (130, "error: interrupted\n")
    eventually(lambda: is_idle(runner))


def test_a_closed_pipe_is_silent_and_stops_the_model(runner: RunnerClient) -> None:
    """`qwenctl run … | head -c 5`."""
    program = f"set -o pipefail; {' '.join(QWENCTL)} run slow '{LONG}' | head -c 5"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "so it", "")
    eventually(lambda: is_idle(runner))


def test_on_a_terminal() -> None:
    """Thoughts are dim and apart, control sequences of the model are taken out; no chat begins."""
    with screen_of([*QWENCTL, "run", "echo", "<think>hm</think>so \x1b[35mit is"]) as screen:
        screen.wait("hm\r\n\r\nso it is\r\n")
        assert screen.end() == 0
    assert "\x1b[35m" not in screen.raw
    assert "\x1b[2mh" in screen.raw
    assert COLOUR.search(screen.raw[screen.raw.index("so it") :]) is None


def test_a_saved_chat_goes_on(qwenctl: Command) -> None:
    """With `--continue` or `--resume`, with its model; the question and the answer are saved with it."""
    from qwenctl.chat.archive import Chat
    from qwenctl.chat.session import Turn

    archive = Archive(load_settings().state / "chats")
    chat = Chat.of("echo", "", [Turn("user", "one"), Turn("assistant", "1")])
    archive.write(chat)
    assert qwenctl("run", "echo", "two", "--continue").out == "two\n"
    assert qwenctl("run", "--resume", chat.id[:5], piped="three").out == "three\n"
    assert qwenctl("run", "--continue", "--no-save", piped="four").out == "four\n"
    assert [turn.text for turn in archive.read(chat.id).turns] == ["one", "1", "two", "two", "three", "three"]


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (("other", "--continue"), 3),
        (("--continue",), 3),
        (("--resume", "abc"), 3),
        (("--resume", "../x"), 2),
        (("--resume", ""), 2),
        (("echo", "--continue", "--resume", "abc"), 2),
    ],
)
def test_there_is_no_such_chat(qwenctl: Command, flags: tuple[str, ...], status: int) -> None:
    """A word on how to see those that there are, and nothing is asked."""
    shown = qwenctl("run", *flags, piped="hi")
    assert (shown.status, shown.out) == (status, "")
    assert "hint: " in shown.err


def test_a_one_shot_is_not_saved_and_loads_no_terminal(qwenctl: Command) -> None:
    """Neither prompt_toolkit nor rich, nor an HTTP library, is loaded for it."""
    program = (
        "import sys; from qwenctl.cli import main; status = main(['run', 'echo', 'hi']);"
        "heavy = ('prompt_toolkit', 'rich', 'httpx', 'asyncio', 'jinja2');"
        "print(status, [name for name in heavy if name in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert shown.stdout == "hi\n0 []\n", shown.stderr
    assert json.loads(qwenctl("chats", "list", "--json").out)["data"] == {"chats": []}
