"""Help: on one screen, in 80 columns, with examples that are right."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from qwenctl.cli.app import ALIASES, COMMANDS, GROUPS, app
from qwenctl.cli.help import HEIGHT, WIDTH, split_examples
from qwenctl.cli.tree import CommandSpec, read
from tests.cli.conftest import Command

LEAVES = tuple(read().leaves())
EXAMPLES = [example for leaf in LEAVES for example in leaf.examples]


def _parsed(words: list[str]) -> Any:
    """The context that a command line gives: nothing is run. Raises: typer's usage errors."""
    command: Any = typer.main.get_command(app)
    context = None
    while hasattr(command, "get_command"):
        context = command.context_class(command, info_name="qwenctl", parent=context)
        name, *words = words
        command = command.get_command(context, name)
        assert command is not None, name
    return command.make_context(name, words, parent=context)


def _calls(example: str) -> Iterator[list[str]]:
    """The arguments of every `qwenctl` in a line of shell."""
    for found in re.finditer(r"qwenctl ([^|&;<>)]*)", example):
        yield shlex.split(found[1])


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_short_help_fits_a_screen(qwenctl: Command, leaf: CommandSpec) -> None:
    """`-h` is never taller than a terminal of 24 lines, nor wider than 80 columns."""
    lines = qwenctl(*leaf.path, "-h").out.splitlines()
    assert len(lines) < HEIGHT
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.name)
def test_help_has_all_options_and_an_example(qwenctl: Command, leaf: CommandSpec) -> None:
    """`--help` leaves nothing out; `qwenctl help` says the same."""
    text = qwenctl(*leaf.path, "--help").out
    assert qwenctl("help", *leaf.path).out == text
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\nExamples:\n" in text
    for option in leaf.options:
        assert option.names[0] in text or "-h" in option.names


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_can_be_typed(example: str) -> None:
    """Every `qwenctl` in an example has a command, options and arguments that exist."""
    calls = list(_calls(example))
    assert calls, example
    for words in calls:
        _parsed(words)


def test_the_first_screen_has_every_command(qwenctl: Command) -> None:
    """`qwenctl`, `qwenctl help`, `-h` and `--help` are one screen with all that is not hidden."""
    text = qwenctl("--help").out
    assert qwenctl().out == qwenctl("-h").out == qwenctl("help").out == text
    assert len(text.splitlines()) < HEIGHT
    assert max(map(len, text.splitlines())) <= WIDTH
    for row in COMMANDS:
        assert bool(re.search(rf"(?:^|  ){row.name} ", text, re.MULTILINE)) is not row.hidden


def test_groups_list_their_commands(qwenctl: Command) -> None:
    """A group without a command is a question, not an error."""
    shown = qwenctl("config")
    assert (shown.status, shown.err) == (0, "")
    assert re.search(r"^  set +Write a setting", shown.out, re.MULTILINE)
    for group in GROUPS:
        assert max(map(len, qwenctl(group).out.splitlines())) <= WIDTH


def test_aliases_are_commands(qwenctl: Command) -> None:
    """What Docker calls otherwise works, too."""
    assert ALIASES == {"ls": "list", "unload": "stop"}
    assert qwenctl("ls", "--json").document["command"] == "list"
    assert qwenctl("unload", "--all", "--json").document["command"] == "stop"


def test_help_needs_no_store(qwenctl: Command, store_path: Path) -> None:
    """Reading about a command makes nothing."""
    qwenctl("pull", "--help")
    qwenctl("help", "config", "set")
    assert not store_path.exists()


def test_examples_in_a_docstring() -> None:
    """One, or several with a dot between them; they end with their paragraph."""
    text = "What it does. Examples: a b · c\n    d\n\nMore."
    assert split_examples(text) == ("What it does.\n\nMore.", ("a b", "c d"))
