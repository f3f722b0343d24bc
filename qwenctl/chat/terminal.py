"""The conversation in a terminal: reads what is typed, carries out what it asks for, draws the answers."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from qwenctl.chat import actions
from qwenctl.chat.actions import Action, Send
from qwenctl.chat.archive import Archive, Chat, Keeper, encode, read_chat, transcript, write_private
from qwenctl.chat.attachments import AttachedFile, mentions
from qwenctl.chat.completion import Sources
from qwenctl.chat.files import existing, read_text_file
from qwenctl.chat.model import ChatModel
from qwenctl.chat.plain import plain
from qwenctl.chat.prompt import Key, Prompt
from qwenctl.chat.screen import AnswerView, Screen, unechoed
from qwenctl.chat.session import Session, shortened, title
from qwenctl.chat.spoken import Said, Thought, spoken
from qwenctl.chat.tally import Tally
from qwenctl.errors import FileMissing, QwenctlError, UsageError
from qwenctl.runtime.events import Finished


@dataclass(frozen=True, slots=True)
class Places:
    """Where a conversation is kept. `archive` None: it is not saved; `history` None: what is typed is not."""

    archive: Archive | None
    history: Path | None


@dataclass(slots=True)
class _Heard:
    """An answer as far as it came."""

    text: str = ""
    thinking: str = ""
    finished: Finished | None = None


class Conversation:
    """One conversation. `resumed` is the saved chat that `session` goes on with."""

    def __init__(
        self, session: Session, model: ChatModel, places: Places, *, plain: bool, resumed: Chat | None = None
    ) -> None:
        self._session, self._model = session, model
        self._screen = Screen(plain=plain)
        self._archive = places.archive
        self._keeper = Keeper(places.archive, resumed) if places.archive else None
        self._prompt = Prompt(places.history, Sources(model.names, self._chats), plain=plain)
        self._tally = Tally()
        self._written: set[Path] = set()  # by /save: to be replaced without a question
        self._leaving = False  # one more Ctrl-C leaves

    def run(self, greeting: str) -> None:
        """Talk until the person leaves: `/bye`, Ctrl-D, or Ctrl-C twice. What fails is told."""
        self._screen.note(greeting)
        self._show_last_words()
        while True:
            try:
                if not self._goes_on():
                    return
            except QwenctlError as error:
                self._screen.error(error)
            except KeyboardInterrupt:  # of a load, a pull, a save; or the second one of an answer
                if self._leaving:
                    return
                self._once_more("stopped; Ctrl-C again leaves")

    def _goes_on(self) -> bool:
        """One text that is typed, and what it asks for; False when that is to leave. Raises: QwenctlError."""
        typed = self._prompt.read()
        if isinstance(typed, Key):
            return not self._leaves(typed)
        self._leaving = False
        action = self._session.feed(typed)
        if isinstance(action, actions.Leave):
            return False
        self._perform(action)
        return True

    def _leaves(self, key: Key) -> bool:
        if key is Key.ENDED or (key is Key.INTERRUPTED and self._leaving):
            return True
        if key is Key.INTERRUPTED:
            self._once_more("Ctrl-D or /bye leaves, Ctrl-C again does too")
        return False

    def _once_more(self, text: str) -> None:
        """The first Ctrl-C; the next one leaves."""
        self._leaving = True
        self._screen.quiet(text)

    def _perform(self, action: Action) -> None:
        """Raises: QwenctlError."""
        match action:
            case Send(text, named):
                self._send(text, named)
            case actions.Retry():
                self._answer()
            case actions.Edit(text):
                self._edit(text)
            case actions.Say(text):
                self._screen.note(plain(text))
            case actions.Changed(text):
                self._save()
                self._screen.note(plain(text))
            case actions.Cleared():
                self._clear()
            case actions.Unknown(command, suggestion):
                meant = f"did you mean {suggestion}?" if suggestion else "/help lists them"
                self._screen.note(f"no command {plain(command)}; {meant} // begins a message with a slash")
            case actions.Attach(path):
                file = read_text_file(path)
                self._session.attach(file)
                self._screen.quiet(f"{plain(file.summary())} goes with the next message")
            case actions.Save(path):
                self._save_as(path)
            case actions.Load(source):
                self._load(source)
            case _:
                self._see_to_model(action)

    def _see_to_model(self, action: Action) -> None:
        match action:
            case actions.SwitchModel(name):
                self._model.switch(name)
                self._save()
                self._screen.note(f"{self._model.name} answers from here on")
            case actions.SetContext(tokens):
                self._model.reload(tokens)
                self._screen.note(f"context: {self._model.context_length}")
            case actions.ShowModel(topic):
                self._show_model(topic)
            case actions.ShowTokens():
                self._screen.note(self._tally.context(self._model.context_length))
            case actions.ShowStats():
                self._note_rows(self._tally.rows())

    # --- questions and answers

    def _send(self, text: str, named: Sequence[str]) -> None:
        """Raises: QwenctlError, for a file that cannot go with it; then nothing is asked."""
        files = self._read_files(named)
        self._session.ask(text, files)
        self._answer()

    def _read_files(self, named: Sequence[str]) -> list[AttachedFile]:
        paths = [(name, existing(name)) for name in named]
        files = [read_text_file(path) for _, path in paths if path is not None]
        for name, path in paths:
            if path is None and "/" in name:
                self._screen.quiet(f"there is no file {plain(name)}: it stays text")
        if files:
            self._screen.quiet(f"with {', '.join(plain(file.summary()) for file in files)}")
        return files

    def _answer(self) -> None:
        """Ask what stands last, draw the answer, keep it. Raises: EngineError, UsageError."""
        self._save()  # the question survives whatever happens now
        heard = _Heard()
        view = self._screen.answer(hide_thoughts=self._session.choices.thinking == "hide")
        try:
            with unechoed():
                self._hear(heard, view)
        except KeyboardInterrupt:
            self._leaving = True
            view.end()
            self._keep(heard, interrupted=True)
            taken = "" if heard.text else ", and the question is taken back"
            self._once_more(f"stopped{taken}; Ctrl-C again leaves")
            return
        except QwenctlError:
            view.end()
            self._keep(heard, interrupted=True)
            raise
        view.end()
        self._keep(heard, interrupted=False)

    def _hear(self, heard: _Heard, view: AnswerView) -> None:
        request = self._session.request(self._model.suggested)
        with closing(spoken(self._model.chat(request))) as pieces:
            for piece in pieces:
                match piece:
                    case Thought(text):
                        heard.thinking += text
                        view.thought(text)
                    case Said(text):
                        heard.text += text
                        view.said(text)
                    case Finished():
                        heard.finished = piece

    def _keep(self, heard: _Heard, *, interrupted: bool) -> None:
        """What there was of an answer counts; without a word of it the question is taken back."""
        if interrupted and not heard.text:
            self._session.failed()
        else:
            self._session.answered(heard.text, heard.thinking, interrupted=interrupted)
        self._save()
        if heard.finished is not None:
            self._tally.count(heard.finished.usage)
            cut = "cut at max_tokens or the context's end · " if heard.finished.reason == "length" else ""
            self._screen.quiet(cut + self._tally.line(self._model.context_length))

    def _edit(self, text: str) -> None:
        edited = self._prompt.edit(text)
        if isinstance(edited, Key) or not edited.strip():
            return
        files = self._read_files(mentions(edited))  # what cannot be read leaves all as it is
        self._session.take_back()
        self._session.ask(edited.strip(), files)
        self._answer()

    # --- saved chats

    def _save(self) -> None:
        if self._keeper is None:
            return
        try:
            self._keeper.save(self._model.name, self._session.system, self._session.turns)
        except QwenctlError as error:  # a full disk must not end the conversation
            self._screen.error(error)

    def _save_as(self, text: str) -> None:
        """Raises: UsageError, AccessDenied, DiskFull."""
        if not text:
            kept = self._keeper.id if self._keeper else None
            where = f"it is saved as it goes, as {kept}" if kept else "nothing is saved yet"
            self._screen.note(
                where if self._keeper else "this chat is not saved; /save PATH writes it to a file"
            )
            return
        path = Path(text).expanduser().absolute()
        if path not in self._written and path.exists():
            raise UsageError(f"`{text}` exists", hint="choose another name, or remove it first")
        chat = Chat.of(self._model.name, self._session.system, self._session.turns)
        write_private(path, encode(chat) if path.suffix == ".json" else transcript(chat).encode())
        self._written.add(path)
        self._screen.note(f"wrote {plain(text)}")

    def _load(self, source: str) -> None:
        """Raises: NotFound, Malformed, UsageError."""
        path = Path(source).expanduser()
        from_file = "/" in source or path.suffix == ".json" or self._archive is None
        chat = read_chat(path) if from_file else self._archived(source)
        self._session.replace(chat.system, chat.turns)
        self._tally = Tally()
        if self._keeper is not None:
            self._keeper.begin(None if from_file else chat)
        self._screen.note(f"{len(chat.turns)} messages, held with {plain(chat.model)}")
        self._show_last_words()

    def _archived(self, beginning: str) -> Chat:
        assert self._archive is not None
        try:
            return self._archive.read(beginning)
        except UsageError:
            raise FileMissing(f"there is no chat and no file `{beginning}`") from None

    def _clear(self) -> None:
        if self._keeper is not None:
            self._keeper.begin()
        self._tally = Tally()
        self._screen.note("the conversation is forgotten; this is a new chat")

    def _chats(self) -> list[tuple[str, str]]:
        chats = self._archive.chats()[0] if self._archive else []
        return [(chat.id, plain(title(chat.turns))) for chat in chats]

    # --- what is shown on request

    def _show_last_words(self) -> None:
        """The end of a conversation that is gone on with."""
        turns = self._session.turns
        for turn in turns[-2:]:
            if turn.role == "user":
                self._screen.note(f">>> {plain(shortened(turn.text, 200))}")
            else:
                view = self._screen.answer(hide_thoughts=True)
                view.said(turn.text)
                view.end()
        if self._session.unanswered:
            self._screen.quiet("this was not answered; /retry asks it again")

    def _show_model(self, topic: str) -> None:
        parameters = self._session.choices.rows(self._model.suggested)
        if topic == "template":
            self._screen.note(plain(self._model.template()) or "it has no chat template")
            return
        if topic == "parameters":
            self._note_rows([*parameters, ("context", str(self._model.context_length or ""))])
            return
        kept = (self._keeper.id if self._keeper else None) or "not saved"
        rows = [*self._model.about(), ("System", plain(self._session.system))]
        self._note_rows([*rows, ("Chat", f"{kept}, {len(self._session.turns)} messages")])

    def _note_rows(self, rows: Sequence[tuple[str, str]]) -> None:
        shown = [(name, value) for name, value in rows if value]
        width = max((len(name) for name, _ in shown), default=0)
        lines = [f"{name:<{width}}  {value}" for name, value in shown]
        self._screen.note("\n".join(lines) or "nothing was answered yet")
