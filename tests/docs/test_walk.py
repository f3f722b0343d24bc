"""A newcomer reads the README and types what stands there, in its order, in a terminal, on a fresh home."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.terminal_picture import Terminal
from tests.chat.screens import Screen, screen_of
from tests.docs.transcripts import ROOT, Part, Preparation, Step, parts, pattern
from tests.docs.world import World, world
from tests.peers import require_peer

COLUMNS = 240
PROMPT = re.compile(r"\[(\d+)\] me\$ $")
SPARED = {"make test": "it tests itself"}


class Walk:
    """A shell in a terminal, and a second one for the server. A terminal may show more than a document."""

    def __init__(self, here: World, shell: Screen) -> None:
        self.here, self.shell, self.server = here, shell, shell
        self.walked: list[str] = []
        self._typed = 0  # lines

    def take(self, part: Part) -> None:
        """Type a step, and look at what comes; prepare what no reader does."""
        match part:
            case Step(command="make run"):
                self._chat()
            case Step(command="qwenctl serve"):
                self._serve()
            case Step() if not part.skipped:
                self._type(part)
            case Step():
                return
            case Preparation(words="serve"):
                return  # a reader's second terminal has it
            case _:
                self.here.take(part)
                if isinstance(part, Preparation) and part.words.startswith("hub"):
                    self._send("export QWENCTL_MIRRORS=" + self.here.mirrors)
                    self._output()
                return
        self.walked.append(part.command)

    def _type(self, step: Step) -> None:
        self._send(self.here.local(step.command))
        status, out = self._output()
        place = f"README.md:{step.line}: $ {step.command}\n{out}"
        assert status == 0, place
        assert step.shown is None or pattern(step.shown).search(self.here.as_documented(out)), place

    def _chat(self) -> None:
        """What `make run` does once everything is set up."""
        self._send("qwenctl run guide")
        for line in ("What is a blob?", "/help", "/bye"):
            self.shell.prompt()
            self.shell.keys(f"{line}\r")
        status, out = self._output()
        assert status == 0
        assert "A blob is one stored piece of data" in out and "/undo" in out

    def _serve(self) -> None:
        self.server = self.here.stack.enter_context(terminal(self.here.home))
        self.server.wait("me$ ")
        self.server.keys("qwenctl serve --port 0\r")
        shown = self.server.wait("on this machine")
        found = re.search(r"serving on http://([\d.:]+)/v1", shown)
        assert found is not None, shown
        self.here.places["127.0.0.1:12434"] = found[1]

    def end_server(self) -> int:
        """Ctrl-C in the second terminal; the status it leaves."""
        self.server.keys("\x03")
        return int(re.search(r"\[(\d+)\] me\$ $", self.server.wait("] me$ "))[1])  # type: ignore[index]

    def _send(self, command: str) -> None:
        self.shell.raw, self._typed = "", command.count("\n") + 1
        self.shell.keys(command.replace("\n", "\r") + "\r")

    def _output(self) -> tuple[int, str]:
        """The status of what was typed, and what a reader sees of it."""
        self.shell.wait("] me$ ", 60)
        screen = Terminal(COLUMNS)
        screen.write(self.shell.raw)
        lines = screen.text.rstrip("\n").splitlines()
        found = PROMPT.search(f"{lines[-1]} ")
        assert found is not None, screen.text
        return int(found[1]), "".join(f"{line}\n" for line in lines[self._typed : -1])


@contextmanager
def terminal(home: Path) -> Iterator[Screen]:
    """A shell that edits nothing and shows the last status in its prompt."""
    bash = ["bash", "--noprofile", "--norc", "--noediting", "-i"]
    with screen_of(bash, PS1="[$?] me$ ", PS2="> ", COLUMNS=str(COLUMNS), HISTFILE="") as shell:
        shell.resize(60, COLUMNS)
        shell.keys(f"cd {home}\r")
        shell.wait("me$ ")
        yield shell


@pytest.mark.slow
def test_the_walk(clean_environment: Path) -> None:
    """Every step of the README does what it says, from the chat of `make run` to the end of the server."""
    for program in ("curl", "jq"):
        require_peer(program)
    found = parts((ROOT / "README.md").read_text())
    with world(clean_environment) as here, terminal(clean_environment) as shell:
        walk = Walk(here, shell)
        for part in found:
            walk.take(part)
        assert walk.end_server() == 0
    steps = [part for part in found if isinstance(part, Step) and part.command not in SPARED]
    left = [step.command for step in steps if step.command not in walk.walked]
    assert all("qwen2.5" in command for command in left), left  # Docker Hub is not here
