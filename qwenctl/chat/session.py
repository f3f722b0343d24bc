'''A conversation as values: each text that is typed becomes one action; answers are handed back. Pure.

text        → an `Action`
"""         begins and ends a text of several lines
/command    see `commands`
//…         a message that begins with a slash
'''

from collections.abc import Iterable
from typing import Literal

import msgspec

from qwenctl.chat.actions import (
    Action,
    Attach,
    Changed,
    Cleared,
    Edit,
    Leave,
    Load,
    Nothing,
    Retry,
    Save,
    Say,
    Send,
    SetContext,
    ShowModel,
    ShowStats,
    ShowTokens,
    SwitchModel,
    Unknown,
)
from qwenctl.chat.attachments import AttachedFile, mentions
from qwenctl.chat.choices import CONTEXT, Choices, parameter_name, parse_context
from qwenctl.chat.commands import QUOTES, Command, find_command, help_text, near_command
from qwenctl.errors import UsageError
from qwenctl.runtime.engine import ChatRequest, Message


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One turn as it is kept. `thinking` came before an answer; `interrupted` is one that was stopped."""

    role: Literal["user", "assistant"]
    text: str
    files: tuple[AttachedFile, ...] = ()
    thinking: str = ""
    interrupted: bool = False

    @property
    def message(self) -> Message:
        """The turn as the model gets it; what it thought earlier it does not get."""
        content = "\n\n".join([self.text, *(file.render() for file in self.files)])
        return Message(role=self.role, content=content.strip("\n") if self.files else content)


class Session:
    """One conversation. After `ask` and `Retry` comes exactly one of `answered` and `failed`."""

    def __init__(self, system: str = "", choices: Choices | None = None, turns: Iterable[Turn] = ()) -> None:
        self.system = system
        self.choices = choices or Choices()
        self._turns = list(turns)
        self._files: list[AttachedFile] = []
        self._set_aside: Turn | None = None

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said, the system message apart."""
        return tuple(self._turns)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, the system message first."""
        system = (Message(role="system", content=self.system),) if self.system else ()
        return (*system, *(turn.message for turn in self._turns))

    @property
    def unanswered(self) -> bool:
        """Whether the last word is a question, as when the program was killed."""
        return bool(self._turns) and self._turns[-1].role == "user"

    def request(self, suggested: dict[str, float]) -> ChatRequest:
        """The whole conversation as a request, the last question last. Raises: as `Choices.request`."""
        return self.choices.request(self.messages, suggested)

    def feed(self, text: str) -> Action:
        """What to do with what was typed, one line or several."""
        text = text.strip()
        if text.startswith(QUOTES):
            whole = text.removeprefix(QUOTES).removesuffix(QUOTES).strip("\n")
            return Send(whole, mentions(whole)) if whole.strip() else Nothing()
        if not text:
            return self._send_files()
        if text.startswith("//"):
            return Send(text[1:], mentions(text))
        if text.startswith("/") and "\n" not in text:
            return self._command(text)
        return Send(text, mentions(text))

    def attach(self, file: AttachedFile) -> None:
        """`file` goes with the next message."""
        self._files.append(file)

    def ask(self, text: str, files: Iterable[AttachedFile] = ()) -> None:
        """A question, with its files. One that was never answered makes place: roles must take turns."""
        if self.unanswered:
            self._turns.pop()
        whole = tuple({file.name: file for file in (*self._files, *files)}.values())
        self._files = []
        self._turns.append(Turn("user", text, whole))

    def answered(self, text: str, thinking: str = "", *, interrupted: bool = False) -> None:
        """The model's turn; one that was stopped counts as far as it came, so that `go on` makes sense."""
        self._set_aside = None
        self._turns.append(Turn("assistant", text, (), thinking, interrupted))

    def failed(self) -> None:
        """There was no answer: the question is taken back; an answer that it had before is there again."""
        if self._set_aside is not None:
            self._turns.append(self._set_aside)
            self._set_aside = None
            return
        self._turns.pop()

    def take_back(self) -> None:
        """The last question will be asked in other words: it goes with its answer; its files stay."""
        asked = self._last_question()
        if asked is not None:
            self._files = list(self._turns[asked].files)
            del self._turns[asked:]

    def replace(self, system: str, turns: Iterable[Turn]) -> None:
        """Another conversation in the place of this one; what was set stays."""
        self.system, self._turns, self._files = system, list(turns), []

    def _send_files(self) -> Action:
        """An empty line sends what was attached, if anything was."""
        return Send("") if self._files else Nothing()

    def _command(self, text: str) -> Action:
        name, _, argument = text.partition(" ")
        command = find_command(name)
        if command is None:
            return Unknown(name, None if "/" in name[1:] else near_command(name))
        try:
            return self._perform(command, argument.strip())
        except UsageError as error:
            return Say(error.message + (f"; {error.hint}" if error.hint else ""))

    def _perform(self, command: Command, argument: str) -> Action:
        """The action of a command whose name is known. Raises: UsageError."""
        match command.name:
            case "/help":
                return Say(help_text())
            case "/bye":
                return Leave()
            case "/clear":
                self.replace(self.system, ())
                return Cleared()
            case "/system":
                return self._set_system(argument)
            case "/set":
                return self._set(argument)
            case "/think":
                return self._set(f"think {argument}") if argument else Say(f"think: {self.choices.thinking}")
            case "/show":
                return self._show(argument)
            case "/model":
                return SwitchModel(argument) if argument else ShowModel("")
            case "/retry" | "/edit" | "/undo":
                return self._on_the_last(command.name)
            case "/tokens":
                return ShowTokens()
            case "/stats":
                return ShowStats()
            case "/save":
                return Save(argument)
        if not argument:
            raise UsageError(f"write {command.name} {command.argument}")
        return Attach(argument) if command.name == "/file" else Load(argument)

    def _set_system(self, text: str) -> Action:
        if not text:
            return Say(self.system or "there is no system message")
        self.system = "" if text in ("-", "default") else text
        return Changed("the system message is set" if self.system else "there is no system message now")

    def _set(self, argument: str) -> Action:
        words = argument.split(maxsplit=1)
        if words and words[0] == "parameter":  # as Ollama has it
            words = words[1].split(maxsplit=1) if len(words) > 1 else []
        if not words:
            return ShowModel("parameters")
        name = parameter_name(words[0])
        if len(words) == 1:
            raise UsageError(f"write /set {name} VALUE; `default` takes it back")
        value = words[1].strip()
        if name == "system":
            return self._set_system(value)
        if name == CONTEXT:
            return SetContext(parse_context(value))
        self.choices = self.choices.changed(name, value)
        return Say(f"{name}: {value}")

    def _show(self, topic: str) -> Action:
        match topic:
            case "system":
                return Say(self.system or "there is no system message")
            case "messages":
                return Say(
                    "\n\n".join(f"{m.role}: {m.content}" for m in self.messages) or "nothing was said yet"
                )
            case "" | "model" | "parameters" | "template":
                return ShowModel("" if topic == "model" else topic)
        raise UsageError(f"there is no `{topic}` to show; it is system, parameters, messages or template")

    def _on_the_last(self, command: str) -> Action:
        """`/retry`, `/edit` and `/undo`: what becomes of the last question."""
        asked = self._last_question()
        if asked is None:
            return Edit("") if command == "/edit" else Say("nothing was asked yet")
        text = self._turns[asked].text
        match command:
            case "/edit":
                return Edit(text)
            case "/retry":
                self._set_aside = None if self.unanswered else self._turns[-1]
                del self._turns[asked + 1 :]
                return Retry()
        del self._turns[asked:]
        return Changed(f"took back: {shortened(text)}")

    def _last_question(self) -> int | None:
        return max((place for place, turn in enumerate(self._turns) if turn.role == "user"), default=None)


def shortened(text: str, width: int = 60) -> str:
    """`text` in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def title(turns: Iterable[Turn]) -> str:
    """The beginning of the first question, to know a chat by."""
    return next((shortened(turn.text) for turn in turns if turn.role == "user"), "")
