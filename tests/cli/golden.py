"""Transcripts of the main commands: what a person at a terminal sees, what a pipe gets.

`tests/golden/session-….txt` has a session for each of `SETTINGS`. After a change that is wanted,

    python -m tests.cli.golden

writes them anew; `git diff` then shows what users will see. What differs from run to run stands there as
`<ago>`, `<size>` and the like; stderr is below stdout, behind a line of its own.
"""

import fcntl
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

GOLDEN: Final = Path(__file__).parents[1] / "golden"
ROOT: Final = Path(__file__).parents[2]
_RESET: Final = "\\e[0m"

COMMANDS: Final = """
qwenctl
qwenctl pull guide
qwenctl pull guide
qwenctl pull guide:nope
qwenctl pull qwen2.5
qwenctl list
qwenctl list gide
qwenctl list --json
qwenctl search coder --offline
qwenctl show guide --host box.yaml
qwenctl fit guide --host box.yaml
qwenctl run guide "What is a tag?" --temperature 0
qwenctl ps
qwenctl stop guide
qwenctl tag guide mine
qwenctl rm mine
qwenctl df
qwenctl verify
qwenctl prune
qwenctl chats list
qwenctl context list
qwenctl config set port 80800
qwenctl config get port
qwenctl launch aider --model guide --dry-run
qwenctl purge --yes
qwenctl rmi guide
qwenctl list --jsn
"""
BOX: Final = "name: gaming PC\nram: {total: 32GiB, available: 28GiB}\ngpus: [{total: 8GiB, free: 7.6GiB}]\n"

# The columns after what varies move with it: their gap is written as two spaces.
_VARYING: Final = (
    (r"\b(just now|\d+ (minute|hour|day|week|month|year)s? ago)( {2,}|\b)", r"<ago>\3"),
    (r"[\d.]+ (B|[KMG]iB)( is| are) available", r"<size>\2 available"),
    (r"of [\d.]+ GiB RAM$", "of <size> RAM"),
    (r"^freed [\d.]+ \S+$", "freed <size>"),
    (r"[\d.]+ (B|[KMGT]iB) free at \S+", "<size> free at <store>"),
    (r"(ready(?: .*)?  )[\d.]+ [KMG]iB +\S+ \S+ from now", r"\1<size>  <until>"),
    (r'"created":"[^"]+"', '"created":"<time>"'),
    (r"\d+ ms|\d+\.\d s\b", "<seconds>"),
    (r"(CREATED|<ago>|MEMORY|ON DISK) +", r"\1  "),
    (r"(index and other files +\d+ +).*", r"\1<size>"),
    (r"(blobs of \d+ models? +\d+ +|^all +).*", r"\1<size>"),
    (r"connection refused", "<reason>"),
)


@dataclass(frozen=True)
class Setting:
    """Where commands run: a terminal so wide, none with 0; with further variables."""

    columns: int
    variables: dict[str, str] = field(default_factory=dict)


SETTINGS: Final = {
    "terminal": Setting(80),
    "narrow": Setting(40),
    "no-color": Setting(80, {"NO_COLOR": "1"}),
    "pipe": Setting(0),
}


def path_of(name: str) -> Path:
    """The file of a setting's session."""
    return GOLDEN / f"session-{name}.txt"


def play(setting: Setting, home: Path) -> str:
    """The whole session in an empty home, as it is written down."""
    (home / "box.yaml").write_text(BOX)
    environment = _environment(home) | setting.variables
    try:
        return "\n".join(_played(line, setting, home, environment) for line in COMMANDS.strip().splitlines())
    finally:
        leave = "from qwenctl.cli.wiring import *; from qwenctl.runner.client import RunnerClient as R\n"
        leave += "runner = R.running(load_settings())\nrunner and runner.shutdown()"
        subprocess.run([sys.executable, "-c", leave], env=environment, check=True)


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "PYTHONPATH": str(ROOT),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HTTPS_PROXY": "http://127.0.0.1:1",  # nobody answers there
        "QWENCTL_HUB": "none",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _played(line: str, setting: Setting, home: Path, environment: dict[str, str]) -> str:
    argv = [sys.executable, "-m", *shlex.split(line)]
    run = _at_terminal if setting.columns else _in_pipes
    status, out, err = run(argv, home, environment, setting.columns)
    parts = [f"$ {line}", f"[status {status}]", *([out] if out else [])]
    return "\n".join([*parts, *(["[stderr]", err] if err else []), ""])


def _in_pipes(argv: list[str], home: Path, environment: dict[str, str], _: int) -> tuple[int, str, str]:
    done = subprocess.run(
        argv, cwd=home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, _steady(done.stdout, home), _steady(done.stderr, home)


def _at_terminal(
    argv: list[str], home: Path, environment: dict[str, str], columns: int
) -> tuple[int, str, str]:
    """With a terminal for stdin and stdout and one more for stderr: what is on them in the end."""
    masters, slaves = zip(pty.openpty(), pty.openpty(), strict=True)
    for slave in slaves:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        argv, cwd=home, env=environment, stdin=slaves[0], stdout=slaves[0], stderr=slaves[1]
    )
    for slave in slaves:
        os.close(slave)
    heard = dict.fromkeys(masters, b"")
    open_ends = set(masters)
    while open_ends:
        ready = select.select([*open_ends], [], [], 30)[0]
        assert ready, f"{argv} waits for something"
        for master in ready:
            try:
                piece = os.read(master, 65536)
            except OSError:  # Linux, at the end
                piece = b""
            heard[master] += piece
            if not piece:
                open_ends.discard(master)
                os.close(master)
    out, err = (_steady(settled(raw.decode()), home) for raw in heard.values())
    return child.wait(20), out, err


def _steady(text: str, home: Path) -> str:
    """The text without what differs from run to run, and without what nobody sees."""
    text = text.replace(str(home), "~")
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def settled(raw: str) -> str:
    """What stays on a screen, without empty lines at its end; styles are spelled out as `\\e[1m`."""
    lines: list[list[str]] = [[]]
    row = column = 0
    style = ""
    for piece in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|\r|\n|[^\x1b]", raw):
        if piece == "\n":
            row += 1
            column = 0
            lines += [[] for _ in range(row + 1 - len(lines))]
        elif piece == "\r":
            column = 0
        elif piece[0] != "\x1b":
            cells = lines[row]
            cells += [" "] * (column + 1 - len(cells))
            cells[column] = style + piece
            column, style = column + 1, ""
        elif piece[-1] == "K":
            del lines[row][0 if piece == "\x1b[2K" else column :]
            style = ""
        elif piece[-1] == "A":
            row -= int(piece[2:-1] or 1)
        elif piece[-1] == "m":
            style += piece.replace("\x1b", "\\e")
        else:
            assert piece[-1] in "hl", f"{piece!r} is not known here"
    return "\n".join("".join(cells) for cells in lines).rstrip() + (style if style != _RESET else "")


def main() -> None:
    """Write the transcripts of all settings."""
    for name, setting in SETTINGS.items():
        with tempfile.TemporaryDirectory() as directory:
            path_of(name).write_text(play(setting, Path(directory)))
        print(path_of(name).relative_to(ROOT))  # noqa: T201 - a program for people


if __name__ == "__main__":
    main()
