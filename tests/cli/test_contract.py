"""The contract for scripts: one envelope, exit statuses, streams."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from qwenctl.cli.app import COMMANDS as ROWS
from qwenctl.cli.app import GROUPS
from qwenctl.cli.command_line import command_name, report_bug, wants_json
from qwenctl.cli.man_page import EXIT_STATUS
from qwenctl.cli.output import Printer, ago, fields, table
from qwenctl.errors import error_classes
from tests.cli.conftest import Command

ROOT = Path(__file__).parent.parent.parent
COMMANDS = [row.name for row in ROWS if not row.hidden]

FAILURES = [
    (("list", "--nope", "--json"), "list", "usage", 2),
    (("pull", "--json"), "pull", "usage", 2),
    (("pull", "a b", "--json"), "pull", "invalid_reference", 2),
    (("pull", "guide:nope", "--json"), "pull", "model_unknown", 3),
    (("pull", "127.0.0.1:1/x/y", "--json"), "pull", "unreachable", 4),
    (("inspect", "nope", "--json"), "inspect", "model_unknown", 3),
    (("rm", "nope", "--json"), "rm", "model_unknown", 3),
    (("verify", "nope", "--json"), "verify", "model_unknown", 3),
    (("prune", "--older-than", "x", "--json"), "prune", "usage", 2),
    (("show", "nope", "--json"), "show", "model_unknown", 3),
    (("tag", "nope", "x", "--json"), "tag", "model_unknown", 3),
    (("push", "nope", "--json"), "push", "model_unknown", 3),
    (("package", "--gguf", "/nope", "x", "--json"), "package", "file_missing", 3),
    (("stop", "--json"), "stop", "usage", 2),
    (("configure", "nope", "--json"), "configure", "model_unknown", 3),
    (("logs", "--tail", "x", "--json"), "logs", "usage", 2),
    (("requests", "-n", "0", "--json"), "requests", "usage", 2),
    (("run", "a b", "hi", "--json"), "run", "invalid_reference", 2),
    (("run", "guide", "hi", "--temperature", "-1", "--json"), "run", "usage", 2),
    (("chats", "show", "abc", "--json"), "chats show", "not_found", 3),
    (("chats", "rm", "--json"), "chats rm", "usage", 2),
    (("nonsense", "--json"), "nonsense", "usage", 2),
]

SUCCESSES = [
    ("list",),
    ("ps",),
    ("status",),
    ("version",),
    ("show", "qwen3"),
    ("verify",),
    ("prune", "--dry-run"),
    ("df",),
    ("stop", "--all"),
    ("requests",),
    ("logs",),
    ("host",),
    ("fit", "guide"),
]


@pytest.mark.parametrize(("arguments", "command", "code", "status"), FAILURES, ids=lambda v: str(v)[:40])
def test_failures_have_the_envelope_too(
    qwenctl: Command, arguments: tuple[str, ...], command: str, code: str, status: int
) -> None:
    """Code and status agree with the tree of errors; nothing is on stderr."""
    shown = qwenctl(*arguments)
    document = shown.document
    assert (shown.status, shown.err) == (status, "")
    assert list(document) == ["schema", "command", "status", "exit_code", "data", "errors"]
    assert (document["command"], document["status"], document["exit_code"]) == (command, "error", status)
    assert document["errors"][0]["code"] == code
    assert document["data"] is None


@pytest.mark.parametrize("arguments", SUCCESSES, ids=" ".join)
def test_successes_have_the_envelope(qwenctl: Command, arguments: tuple[str, ...]) -> None:
    """Status 0, data, no errors, and nothing else on either stream."""
    shown = qwenctl(*arguments, "--json")
    assert shown.err == ""
    assert len(shown.out.splitlines()) == 1
    document = shown.document
    assert (document["schema"], document["command"]) == (1, arguments[0])
    assert (document["status"], document["exit_code"], document["errors"]) == ("ok", 0, [])
    assert document["data"] is not None


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in GROUPS])
def test_every_command_has_help_and_json(qwenctl: Command, command: str) -> None:
    """Help fits a terminal of 80 columns and names `--json`."""
    shown = qwenctl(command, "--help")
    assert shown.status == 0
    assert "--json" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_help_is_for_people_and_needs_no_store(qwenctl: Command, store_path: Path) -> None:
    """`--help`, `--version` and nothing at all print and touch nothing."""
    assert qwenctl("--help").out.startswith("Usage: qwenctl")
    assert qwenctl("--version").out.startswith("qwenctl ")
    assert not store_path.exists()


def test_usage_errors_name_the_next_step(qwenctl: Command) -> None:
    """The command's own help is the hint."""
    assert qwenctl("pull").err == "error: `MODEL` is missing\nhint: see `qwenctl pull --help`\n"
    shown = qwenctl("pull", "--zzz")
    assert shown.err == "error: there is no option `--zzz`\nhint: see `qwenctl pull --help`\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("search --limit 0", "`--limit` cannot be `0`\nhint: give a number from 1"),
        ("requests -n 0", "`--count` cannot be `0`\nhint: give a number from 1 to 1000"),
        ("serve --port x", "`--port` cannot be `x`\nhint: give a whole number"),
        ("run guide --top-p x", "`--top-p` cannot be `x`\nhint: give a number"),
        ("run guide --seed", "`--seed` needs a value\nhint: see `qwenctl run --help`"),
        ("list --quiet=1", "`--quiet` takes no value\nhint: see `qwenctl list --help`"),
        ("context create a", "`--url` is missing\nhint: see `qwenctl context create --help`"),
        ("pull a b c", "`b c` is too much\nhint: see `qwenctl pull --help`"),
        ("delete guide", "there is no command `delete`\nhint: did you mean `rm`?"),
        ("configure guide --context 0", "`--context` cannot be `0`\nhint: the least is 1"),
    ],
)
def test_usage_errors_are_in_our_words(qwenctl: Command, line: str, message: str) -> None:
    """What is wrong in backticks, and what would be right."""
    shown = qwenctl(*line.split())
    assert (shown.status, shown.err) == (2, f"error: {message}\n")


@pytest.mark.parametrize(
    ("argv", "name", "as_json"),
    [
        ([], "", False),
        (["list"], "list", False),
        (["--json", "list"], "list", True),
        (["registry", "serve", "--json"], "registry serve", True),
        (["ls", "--json"], "list", True),
        (["configure", "guide"], "configure", False),
        (["run", "m", "--", "--json"], "run", False),
    ],
)
def test_the_command_is_known_before_it_is_parsed(argv: list[str], name: str, as_json: bool) -> None:
    """So that a usage error can be reported as one document."""
    assert (command_name(argv), wants_json(argv)) == (name, as_json)


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_reported_as_one(capsys: pytest.CaptureFixture[str], debug: bool) -> None:
    """Unexpected errors have status 1 and say what to do; a traceback comes only when it is asked for."""
    if debug:
        os.environ["QWENCTL_DEBUG"] = "1"
    assert report_bug(ValueError("oops"), Printer("list", as_json=False)) == 1
    shown = capsys.readouterr().err
    assert "this is a bug: ValueError: oops" in shown
    assert ("QWENCTL_DEBUG" in shown) and ("ValueError: oops\n" in shown)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("QWENCTL_PORT", "x"), ("QWENCTL_KEEP_ALIVE", "soon"), ("QWENCTL_REGISTRY", "a/b")],
)
def test_settings_that_cannot_be_used(qwenctl: Command, variable: str, value: str) -> None:
    """Exit status 2, naming where the value came from."""
    os.environ[variable] = value
    shown = qwenctl("list")
    assert shown.status == 2
    assert f"${variable}" in shown.err


def test_a_read_only_place_for_the_store(qwenctl: Command, tmp_path: Path) -> None:
    """A store that cannot be made says so and names the setting."""
    file = tmp_path / "file"
    file.write_text("")
    os.environ["QWENCTL_STORE"] = str(file / "store")
    shown = qwenctl("list")
    assert shown.status == 2
    assert "QWENCTL_STORE" in shown.err


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("show qwen2.5", 0),
        ("show --help", 0),
        ("list --json", 0),
        ("pull guide --json", 0),
        ("logs", 0),
        ("pull nope:x --json", 4),
        ("nonsense --json", 2),
    ],
)
def test_a_closed_pipe_is_silent(store_path: Path, command: str, status: int) -> None:
    """Whoever read has gone: nothing is said about it, and the status is what it would have been."""
    os.environ["HTTPS_PROXY"] = "http://127.0.0.1:1"
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "qwenctl", *command.split()]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr.replace("there is no log yet\n", "")) == (status, "")


def test_work_goes_on_when_nobody_reads(qwenctl: Command, store_path: Path) -> None:
    """A pull whose lines are read no more is a pull all the same."""
    program = f"{sys.executable} -m qwenctl pull guide --json | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {program}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["event"] == "planned"
    assert [model["name"] for model in qwenctl("list", "--json").data["models"]] == ["guide"]


@pytest.mark.parametrize("flags", ["", "--json", "--help"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has the disk that is always full")
def test_an_output_that_is_full(store_path: Path, flags: str) -> None:
    """Status 6 and a word on stderr, for there is no other place."""
    program = f"{sys.executable} -m qwenctl list {flags} > /dev/full"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (6, "error: cannot write the output: no space is left\n")


def test_streams_that_are_closed(store_path: Path) -> None:
    """`>&-` and its kin are as `/dev/null`."""
    program = f"{sys.executable} -m qwenctl list <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", program]).returncode == 0


def test_no_control_characters_in_a_pipe(qwenctl: Command) -> None:
    """Neither stream has any, on success and on failure."""
    for arguments in (("pull", "guide"), ("list",), ("show", "guide"), ("pull", "guide:nope"), ("--help",)):
        shown = qwenctl(*arguments)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", shown.out + shown.err), arguments


def test_every_exit_status_is_in_the_readme() -> None:
    """The table of the README and the tree of errors tell the same."""
    readme = (ROOT / "README.md").read_text()
    assert set(EXIT_STATUS) == {0, *(cls.exit_code for cls in error_classes())}
    for status, meaning in EXIT_STATUS.items():
        assert f"\n| {status} | {meaning} |\n" in readme


def test_every_command_is_in_the_readme() -> None:
    """With its name in the table of commands."""
    readme = (ROOT / "README.md").read_text()
    for command in COMMANDS:
        assert f"| `qwenctl {command}" in readme, command


def test_tables_and_fields() -> None:
    """Columns two spaces apart, no trailing spaces; empty fields are left out."""
    assert table(("A", "LONG"), [("aaa", "b"), ("c", "")]) == "A    LONG\naaa  b\nc"
    assert fields([("One", "1"), ("Longer", "2"), ("None", "")]) == "One:     1\nLonger:  2"


def test_ago() -> None:
    """One unit, rounded down."""
    from datetime import UTC, datetime, timedelta

    now = datetime(2026, 1, 1, tzinfo=UTC)
    cases = {0: "just now", 61: "1 minute ago", 7200: "2 hours ago", 86400: "1 day ago", 9e7: "2 years ago"}
    assert {seconds: ago(now - timedelta(seconds=seconds), now) for seconds in cases} == cases
    assert ago(None) == "-"


def test_json_survives_a_round_trip(qwenctl: Command) -> None:
    """The document is JSON for others too."""
    assert json.loads(qwenctl("version", "--json").out)["data"]["qwenctl"]


@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["text", "json"])
def test_an_interrupt_is_told(flags: tuple[str, ...]) -> None:
    """Ctrl-C while a registry is silent: status 130 and a word, with `--json` in the envelope."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        program = [sys.executable, "-m", "qwenctl", "fit", f"127.0.0.1:{silent.getsockname()[1]}/a/b"]
        with (
            subprocess.Popen(
                [*program, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as child,
            silent.accept()[0],
        ):  # it has asked, and waits
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=20)
    assert child.returncode == 130
    if flags:
        assert (json.loads(out)["errors"][0]["code"], err) == ("interrupted", "")
    else:
        assert (out, err) == ("", "error: interrupted\n")
