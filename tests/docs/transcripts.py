"""The commands that a document shows, with what it says they print, in the order of reading.

A block fenced with ```` ```console ```` has commands behind `$ `, continued by lines behind `> `, and below
each what it prints: `…` stands for any text, a line that is `…` alone for any lines. Nothing below: it is
not shown, and any output will do. A comment `<!-- test: … -->` prepares what follows it, or spares the next
block (`parse, REASON`); CONTRIBUTING.md lists them.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Final

from qwenctl.cli.tree import find

ROOT: Final = Path(__file__).parent.parent.parent
DOCUMENTS: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_COMMENT: Final = re.compile(r"<!-- test: (?P<words>.+?) -->\s*$")
_SPAN: Final = re.compile(r"`(qwenctl [^`]+)`")


@dataclass
class Step:
    """A command with the line it stands in, and what it prints; None when that is not shown."""

    line: int
    command: str
    shown: list[str] | None = None
    skipped: str = ""
    """Why it is parsed only."""


@dataclass(frozen=True)
class Preparation:
    """The words of a comment."""

    line: int
    words: str


@dataclass
class Block:
    """A fenced block that is no transcript: its language and its text."""

    line: int
    language: str
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What it has, each line ended."""
        return "".join(f"{line}\n" for line in self.lines)


Part = Step | Preparation | Block


def parts(text: str) -> list[Part]:
    """The transcripts' steps, the preparations and the other blocks of a document, in its order."""
    found: list[Part] = []
    skipped, block, transcript = "", None, False
    for number, line in enumerate(text.splitlines(), 1):
        if block is None and not transcript:
            if comment := _COMMENT.match(line):
                word, _, reason = comment["words"].partition(", ")
                skipped = reason if word == "parse" else ""
                if word != "parse":
                    found.append(Preparation(number, comment["words"]))
            elif line == "```console":
                transcript = True
            elif line.startswith("```"):
                block = Block(number, line[3:])
                found.append(block)
        elif line == "```":
            skipped, block, transcript = ("", None, False) if transcript else (skipped, None, False)
        elif block is not None:
            block.lines.append(line)
        elif line.startswith("$ "):
            found.append(Step(number, line[2:], skipped=skipped))
        else:
            _continue(found[-1], line)
    return found


def _continue(step: Part, line: str) -> None:
    assert isinstance(step, Step), f"output before a command: {line}"
    if line.startswith("> ") and step.shown is None:
        step.command += f"\n{line[2:]}"
    else:
        step.shown = [*(step.shown or ()), line]


def pattern(shown: list[str]) -> re.Pattern[str]:
    """What matches an output that is as it is shown; columns may be wider or narrower."""
    return re.compile("".join(r"(?:.*\n)*" if line == "…" else _line_pattern(line) for line in shown))


def _line_pattern(line: str) -> str:
    words = (re.escape(word).replace("…", ".*") for word in line.split())
    return line[: len(line) - len(line.lstrip(" "))] + " +".join(words) + " *\n"


def command_lines(text: str) -> Iterator[tuple[int, list[str], bool]]:
    """Every call of qwenctl that a document names: its line, its arguments, and whether it is whole.

    Those of transcripts and indented blocks are; prose may leave arguments out, and ends with `…`.
    """
    for part in parts(text):
        if isinstance(part, Step):
            yield from ((part.line, call, True) for call in calls(part.command))
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("    ") and "qwenctl " in line and "──" not in line:
            yield from ((number, call, True) for call in calls(line.strip()))
        elif not line.startswith("$ "):
            yield from ((number, call, False) for span in _SPAN.findall(line) for call in calls(span))


def calls(command: str) -> Iterator[list[str]]:
    """The arguments of every `qwenctl` in a command line of the shell."""
    reader = shlex.shlex(command.partition("<<")[0], posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, "#"
    arguments: list[str] | None = None
    for word in reader:
        if arguments is not None and (set(word) <= set("();<>|&") or word == "…"):
            yield arguments
            arguments = None
        elif arguments is not None:
            arguments.append(word)
        elif word == "qwenctl" or word.endswith("/qwenctl"):
            arguments = []
    if arguments is not None:
        yield arguments


def problem(arguments: list[str], *, whole: bool) -> str:
    """What is wrong with a command line by the tree of commands, which is not run; empty when it is right."""
    path = tuple(takewhile(re.compile(r"[a-z]").match, arguments))
    command = next(filter(None, (find(path[:end]) for end in range(min(len(path), 2), -1, -1))))
    if command.path == () and path:
        return f"no such command: {path[0]}"
    rest, values, literal = iter(arguments[len(command.path) :]), 0, False
    options = {name: option for option in command.options for name in option.names}
    for word in rest:
        name, equals, _ = word.partition("=")
        if literal or not word.startswith("-") or word == "-":
            values += 1
        elif word == "--":
            literal = True
        elif name not in options and name not in ("--help", "-h", "--version"):
            return f"no such option: {name}"
        elif name in options and options[name].value and not equals and next(rest, None) is None:
            return f"no value for {name}"
    if command.commands:
        return f"no such command: {arguments[-1]}" if values else ""
    if values > len(command.arguments) and not any(one.many for one in command.arguments):
        return "too many arguments"
    required = sum(one.required for one in command.arguments)
    return "an argument is missing" if whole and values < required and "--help" not in arguments else ""
