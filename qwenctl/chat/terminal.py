"""The terminal end of a conversation: reads lines, shows answers as they come.

The only module beside `cli/` that reads stdin and prints. Answers go to stdout, everything else to stderr.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qwenctl.chat.plain import PlainText
from qwenctl.chat.session import (
    Action,
    Ask,
    Cleared,
    Incomplete,
    Leave,
    Nothing,
    Session,
    ShowHelp,
    Unknown,
)
from qwenctl.errors import QwenctlError
from qwenctl.runtime.engine import Message

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

Pieces = Iterator[str]
"""An answer, piece by piece. A generator: closing it stops the model."""

AskModel = Callable[[tuple[Message, ...]], Pieces]

_PROMPT: Final = ">>> "
_CONTINUATION: Final = "... "
_PLACEHOLDER: Final = "Send a message (/? for help)"


def converse(session: Session, ask: AskModel, *, greeting: str | None, history_path: Path) -> None:
    """Talk until the person leaves by `/bye` or Ctrl-D. What was typed is kept in `history_path`.

    An answer that fails is reported and the conversation goes on without it.
    """
    prompt = _make_prompt(history_path)
    if greeting:
        _say(greeting)
    continued = False
    while True:
        line = _read(prompt, continued)
        if line is None:
            return
        if line is _CLEARED:
            session.abandon()
            continued = False
            continue
        action = session.feed(str(line))
        continued = isinstance(action, Incomplete)
        if isinstance(action, Leave):
            return
        _act(action, session, ask)


def answer_once(pieces: Pieces, *, clean: bool) -> str:
    """Write one answer to stdout as it comes, ended by exactly one line break; the text.

    `clean` takes control sequences out, for a terminal. The answer is stopped when stdout is closed or
    the person presses Ctrl-C; both errors go on to the caller.
    """
    with closing(pieces):  # type: ignore[type-var] # a generator
        text = "".join(_shown(pieces, clean))
    if not text.endswith("\n"):
        _write("\n")
    return text


class _ClearedLine(str):
    """What `_read` gives when the person gave the line up."""


_CLEARED: Final = _ClearedLine()


def _shown(pieces: Pieces, clean: bool) -> Iterator[str]:
    """Each piece, after it has been written."""
    plain = PlainText()
    for piece in pieces:
        shown = plain.feed(piece) if clean else piece
        _write(shown)
        yield shown
    rest = plain.end()
    _write(rest)
    yield rest


def _act(action: Action, session: Session, ask: AskModel) -> None:
    match action:
        case Ask(messages):
            _answer(messages, session, ask)
        case ShowHelp(text):
            _say(text)
        case Cleared():
            _say("the conversation is forgotten")
        case Unknown(command, suggestion):
            meant = f"; did you mean {suggestion}?" if suggestion else "; /help lists the commands"
            _say(f"no command {command}{meant}")
        case Incomplete() | Nothing() | Leave():
            pass


def _answer(messages: tuple[Message, ...], session: Session, ask: AskModel) -> None:
    """Show one answer and tell the session how it ended."""
    parts: list[str] = []
    pieces = ask(messages)
    try:
        with closing(pieces):  # type: ignore[type-var] # a generator
            parts.extend(_shown(pieces, clean=True))
    except KeyboardInterrupt:
        session.stopped("".join(parts))
        _write("\n\n")
    except QwenctlError as error:
        session.failed()
        if parts:
            _write("\n")
        _say(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
    else:
        session.answered("".join(parts))
        _write("\n\n")


def _read(prompt: "PromptSession[str]", continued: bool) -> str | None:
    """The next line; None to leave, `_CLEARED` when the line was given up."""
    try:
        placeholder: Any = "" if continued else [("class:placeholder", _PLACEHOLDER)]
        return prompt.prompt(_CONTINUATION if continued else _PROMPT, placeholder=placeholder)
    except EOFError:
        return None
    except KeyboardInterrupt:
        if not continued and not prompt.default_buffer.text:
            _say("Ctrl-D or /bye leaves")
        return _CLEARED


def _make_prompt(history_path: Path) -> "PromptSession[str]":
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.styles import Style

    history_path.parent.mkdir(parents=True, exist_ok=True)
    history_path.touch(mode=0o600)
    return PromptSession(
        history=FileHistory(str(history_path)),
        style=Style([("placeholder", "fg:ansibrightblack")]),
        # A terminal that cannot tell where its cursor is (a pipe, a test) must not be warned about.
        enable_open_in_editor=False,
        multiline=False,
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
