"""The commands of the chat: one table for `/help`, completion and suggestions. Pure."""

import difflib
from dataclasses import dataclass
from typing import Final, Literal

QUOTES: Final = '"""'

Words = Literal["", "parameters", "models", "paths", "chats"]
"""What an argument is completed from, beside a command's own words."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command; `words` are the arguments that it knows by name."""

    name: str
    argument: str
    meaning: str
    words: tuple[str, ...] = ()
    kind: Words = ""


COMMANDS: Final = (
    Command("/help", "", "this list"),
    Command("/bye", "", "leave (Ctrl-D and twice Ctrl-C do too)"),
    Command("/clear", "", "forget the conversation and begin a new chat"),
    Command("/system", "[TEXT]", "show or set the system message; - is none", ("-",)),
    Command("/set", "NAME VALUE", "set temperature, seed, max_tokens, context …", kind="parameters"),
    Command(
        "/show",
        "[WHAT]",
        "the model and this chat, or one part",
        ("system", "parameters", "messages", "template"),
    ),
    Command("/think", "on|off|hide", "let the model think first, or not, or unseen", ("on", "off", "hide")),
    Command("/model", "[NAME]", "go on with another model", kind="models"),
    Command("/file", "PATH", "send a text file with the next message", kind="paths"),
    Command("/retry", "", "ask the last question again"),
    Command("/edit", "", "change the last question in $VISUAL or $EDITOR"),
    Command("/undo", "", "take back the last question and its answer"),
    Command("/tokens", "", "how full the context is"),
    Command("/stats", "", "what the answers cost"),
    Command("/save", "[PATH]", "write the chat to a file: .json, else Markdown", kind="paths"),
    Command("/load", "ID|PATH", "go on with a saved chat", kind="chats"),
)
ALIASES: Final = {"/?": "/help", "/exit": "/bye", "/quit": "/bye"}

_KEYS: Final = (
    ("@path", "in a message: send that text file with it"),
    (QUOTES, "begin and end several lines; Alt-Enter breaks a line"),
    ("//text", "a message that begins with a slash"),
    ("Ctrl-C", "stop the answer, or clear the line; twice: leave"),
    ("Ctrl-X Ctrl-E", "write the message in $VISUAL or $EDITOR"),
)


def help_text() -> str:
    """All commands and keys, one a line."""
    rows = [(f"{command.name} {command.argument}".strip(), command.meaning) for command in COMMANDS]
    return "\n".join(f"{left:<20}{right}" for left, right in (*rows, *_KEYS))


def find_command(name: str) -> Command | None:
    """The command of that name, or of one of its other names."""
    name = ALIASES.get(name, name)
    return next((command for command in COMMANDS if command.name == name), None)


def near_command(name: str) -> str | None:
    """The command that was probably meant: the only one that begins so, else the most similar."""
    known = [command.name for command in COMMANDS]
    beginning = [command for command in known if command.startswith(name.lower())]
    if len(beginning) == 1:
        return beginning[0]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return near[0] if near else None


def unfinished(text: str) -> bool:
    """Whether a text of several lines has begun in `text` and not ended: Enter breaks the line there."""
    start = text.lstrip()
    return start.startswith(QUOTES) and QUOTES not in start[len(QUOTES) :]
