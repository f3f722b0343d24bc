'''A conversation as values: each line that is typed becomes one action; answers are handed back.

line        → Ask(messages) | Incomplete | ShowHelp | Cleared | Leave | Unknown | Nothing
"""         begins and ends a text of several lines
/help, /?   what can be typed        /clear   forget the conversation
/bye        leave                    //…      a message that begins with a slash
'''

import difflib
from dataclasses import dataclass
from typing import Final

from qwenctl.runtime.engine import Message

QUOTES: Final = '"""'

HELP: Final = '''\
/help       this list
/clear      forget the conversation
/bye        leave (Ctrl-D does too)
"""         begin and end a text of several lines
//text      a message that begins with a slash
Ctrl-C      stop the answer, or clear the line'''

_COMMANDS: Final = {"/help": "help", "/?": "help", "/clear": "clear", "/bye": "leave", "/exit": "leave"}


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model: the whole conversation, the new message last."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """A text of several lines has begun; the next line belongs to it."""


@dataclass(frozen=True, slots=True)
class ShowHelp:
    """Show this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """The conversation is forgotten; the system message stays."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The person wants to go."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """No such command; `suggestion` is the one that was probably meant."""

    command: str
    suggestion: str | None


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty line."""


Action = Ask | Incomplete | ShowHelp | Cleared | Leave | Unknown | Nothing


class Session:
    """One conversation. After `Ask` comes exactly one of `answered`, `stopped` and `failed`."""

    def __init__(self, system: str | None = None) -> None:
        self._system = (Message(role="system", content=system),) if system else ()
        self._turns: list[Message] = []
        self._open: list[str] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, the system message first."""
        return (*self._system, *self._turns)

    def feed(self, line: str) -> Action:
        """What to do with a line, or with several that were pasted at once."""
        if self._open is not None:
            return self._continue(line)
        text = line.strip()
        if text.startswith(QUOTES):
            self._open = []
            return self._continue(text.removeprefix(QUOTES))
        if not text:
            return Nothing()
        if text.startswith("//"):
            return self._ask(text[1:])
        if text.startswith("/") and "\n" not in text:
            return self._command(text)
        return self._ask(text)

    def abandon(self) -> None:
        """Forget a text of several lines that was begun."""
        self._open = None

    def answered(self, text: str) -> None:
        """The model's turn."""
        self._turns.append(Message(role="assistant", content=text))

    def stopped(self, text: str) -> None:
        """The person stopped the answer: what there was of it counts, so that `go on` makes sense."""
        self.answered(text) if text else self.failed()

    def failed(self) -> None:
        """There was no answer: the question is taken back, the next one does not refer to it."""
        self._turns.pop()

    def _continue(self, line: str) -> Action:
        assert self._open is not None
        text, quotes, rest = line.partition(QUOTES)
        self._open.append(text)
        if not quotes:
            return Incomplete()
        whole = "\n".join([*self._open, rest] if rest.strip() else self._open).strip("\n")
        self._open = None
        return self._ask(whole) if whole.strip() else Nothing()

    def _ask(self, text: str) -> Ask:
        self._turns.append(Message(role="user", content=text))
        return Ask(self.messages)

    def _command(self, text: str) -> Action:
        name = text.split()[0]
        match _COMMANDS.get(name):
            case "help":
                return ShowHelp(HELP)
            case "clear":
                self._turns.clear()
                return Cleared()
            case "leave":
                return Leave()
        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        return Unknown(name, near[0] if near else None)
