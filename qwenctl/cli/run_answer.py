"""`run` with a prompt: one answer, alone on stdout as it comes, or in the envelope."""

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TextIO

from qwenctl.chat.plain import PlainText
from qwenctl.chat.spoken import Said, Spoken, Thought, spoken
from qwenctl.cli.output import complain, fields
from qwenctl.cli.run_chat import begin_session, open_archive
from qwenctl.cli.run_model import RunnerModel
from qwenctl.cli.run_options import RunOptions
from qwenctl.runtime.events import Finished

if TYPE_CHECKING:
    from qwenctl.chat.archive import Chat
    from qwenctl.settings import Settings

_DIM: Final = "\x1b[2m"
_RESET: Final = "\x1b[0m"


@dataclass(slots=True)
class Answer:
    """An answer as far as it came."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    finished: Finished | None = None

    def take(self, piece: Spoken) -> None:
        """One piece more."""
        match piece:
            case Said(text):
                self.text.append(text)
            case Thought(text):
                self.thinking.append(text)
            case Finished():
                self.finished = piece


def answer(
    model: RunnerModel, options: RunOptions, chat: "Chat | None", settings: "Settings", *, shown: bool
) -> Answer:
    """The answer to the prompt; `shown` on stdout while it comes. A chat that it goes on with is saved.

    Raises: EngineError; BrokenPipeError when stdout is closed; KeyboardInterrupt. All of them stop the model.
    """
    from qwenctl.chat.archive import Keeper

    session = begin_session(options, chat)
    session.ask(options.text or "")
    heard = Answer()
    with closing(spoken(model.chat(session.request(model.suggested)))) as pieces:
        with model.loading():
            first = next(pieces, None)
        whole = _from(first, pieces)
        for piece in _drawn(whole, plain=options.plain) if shown else whole:
            heard.take(piece)
    if chat is not None and options.save:
        session.answered("".join(heard.text), "".join(heard.thinking))
        Keeper(open_archive(settings), chat).save(model.name, session.system, session.turns)
    if options.stats and heard.finished is not None:
        from qwenctl.chat.tally import usage_rows

        complain(fields(usage_rows(heard.finished.usage)))
    return heard


def _from(first: Spoken | None, rest: Iterator[Spoken]) -> Iterator[Spoken]:
    if first is not None:
        yield first
    yield from rest


def _drawn(pieces: Iterator[Spoken], *, plain: bool) -> Iterator[Spoken]:
    """Each piece, after it was written: the answer ended by exactly one line break, thoughts dim on stderr.

    A pipe gets the text as it is, and no thoughts; a terminal no control sequences.
    """
    said, thought = _Writer(sys.stdout), _Writer(sys.stderr)
    try:
        for piece in pieces:
            match piece:
                case Said(text):
                    thought.end("\n\n")
                    said.write(text)
                case Thought(text) if sys.stderr.isatty():
                    thought.write(text, "" if plain else _DIM)
            yield piece
    except KeyboardInterrupt:  # what is said about it begins on a line of its own
        (said if said.written else thought).end("\n")
        raise
    thought.end("\n")
    said.end("\n", always=True)


class _Writer:
    """One text on one stream, in pieces."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._cleaner = PlainText() if stream.isatty() else None
        self._last = ""
        self.written = False

    def write(self, text: str, style: str = "") -> None:
        """A piece of it, at once."""
        self._put(self._cleaner.feed(text) if self._cleaner else text, style)

    def end(self, line_break: str, *, always: bool = False) -> None:
        """Ends a text that was begun, or (`always`) any; without effect on one that has ended."""
        if self._cleaner:
            self._put(self._cleaner.end(), "")
        if self._last not in ("", "\n") or (always and not self.written):
            self._put(line_break, "")
            self._last = ""

    def _put(self, text: str, style: str) -> None:
        if text:
            self.written, self._last = True, text[-1]
            self._stream.write(f"{style}{text}{_RESET}" if style else text)
            self._stream.flush()
