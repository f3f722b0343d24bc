"""What Tab completes in the chat: commands, their arguments, and paths behind `@`."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from qwenctl.chat.choices import PARAMETERS
from qwenctl.chat.commands import COMMANDS, Command, find_command

_MENTION: Final = re.compile(r'(?<!\S)@("?)([^\s"]*|(?<=")[^"\n]*)$')
_MOST: Final = 200
"""More than anyone looks through; it bounds the work in a huge directory."""


class Candidate(NamedTuple):
    """A text that may stand in the place of the last `replaced` characters, with a word about it."""

    text: str
    replaced: int
    note: str = ""


class Sources(NamedTuple):
    """Where the names come from that only the caller knows; asked when they are needed."""

    models: Callable[[], Sequence[str]]
    chats: Callable[[], Sequence[tuple[str, str]]]


def is_completed_while_typing(before: str) -> bool:
    """Whether candidates are shown without being asked for: in a command's name, and behind `@`."""
    return re.fullmatch(r"/\S*", before) is not None or _MENTION.search(before) is not None


def candidates(before: str, sources: Sources) -> Iterator[Candidate]:
    """What may complete the text before the cursor."""
    if before.startswith("/") and not before.startswith("//") and "\n" not in before:
        name, space, argument = before.partition(" ")
        if not space:
            for command in COMMANDS:
                if command.name.startswith(name.lower()):
                    yield Candidate(command.name, len(name), command.meaning)
        elif command_found := find_command(name):
            yield from _argument(command_found, argument.lstrip(), sources)
    elif mention := _MENTION.search(before):
        for path in _paths(mention[2]):
            quoted = f'"{path}' if mention[1] or " " in path else path
            closed = quoted + ('"' if quoted.startswith('"') and not path.endswith("/") else "")
            yield Candidate(closed, len(mention[1] + mention[2]))


def _argument(command: Command, word: str, sources: Sources) -> Iterator[Candidate]:
    choices: list[tuple[str, str]] = [(name, "") for name in command.words]
    match command.kind:
        case "parameters":
            choices += [(name, "") for name in PARAMETERS]
        case "models":
            choices += [(name, "") for name in sources.models()]
        case "chats":
            choices += sources.chats()
    for text, note in choices:
        if text.startswith(word):
            yield Candidate(text, len(word), note)
    if command.kind in ("paths", "chats"):
        for path in _paths(word):
            yield Candidate(path, len(word))


def _paths(beginning: str) -> list[str]:
    """The paths that begin so, as typed; directories end with a slash, hidden ones must be asked for."""
    folder, _, name = beginning.rpartition("/")
    shown = beginning[: len(beginning) - len(name)]
    try:
        place = Path(folder or ("/" if shown else ".")).expanduser()
        with os.scandir(place) as entries:
            found = [
                shown + entry.name + ("/" if entry.is_dir() else "")
                for entry in islice(entries, 10 * _MOST)
                if entry.name.startswith(name)
                and entry.name.isprintable()
                and (name or not entry.name.startswith("."))
            ]
    except (OSError, RuntimeError, ValueError):
        return []
    return sorted(found)[:_MOST]
