"""`run` at a terminal: the conversation, and the saved one that it goes on with."""

from typing import TYPE_CHECKING

from qwenctl.cli.run_model import RunnerModel
from qwenctl.cli.run_options import RunOptions
from qwenctl.errors import NotFound

if TYPE_CHECKING:
    from qwenctl.chat.archive import Archive, Chat
    from qwenctl.chat.session import Session
    from qwenctl.settings import Settings


def open_archive(settings: "Settings") -> "Archive":
    """The user's saved chats."""
    from qwenctl.chat.archive import Archive

    return Archive(settings.state / "chats")


def find_chat(options: RunOptions, model: str | None, settings: "Settings") -> "Chat | None":
    """The saved chat to go on with: the one that was named, else the last one with `model`; None without.

    Raises: NotFound, UsageError, Conflict, Malformed.
    """
    if options.resume is None:
        return None
    archive = open_archive(settings)
    if options.resume:
        return archive.read(options.resume)
    chat = archive.latest(model)
    if chat is None:
        whom = f" with `{model}`" if model else ""
        raise NotFound(f"there is no chat{whom} to go on with", hint="`qwenctl chats list` lists them")
    return chat


def begin_session(options: RunOptions, chat: "Chat | None") -> "Session":
    """The conversation as it stands; `--system` goes before what the saved one has."""
    from qwenctl.chat.session import Session

    system = options.system if options.system is not None else (chat.system if chat else "")
    return Session(system, options.choices, chat.turns if chat else ())


def converse(model: RunnerModel, options: RunOptions, chat: "Chat | None", settings: "Settings") -> None:
    """Talk until the person leaves. Raises: what loading the model raises."""
    from qwenctl.chat.terminal import Conversation, Places

    model.load()
    context = f" · {model.context_length} tokens of context" if model.context_length else ""
    kept = Places(open_archive(settings), settings.state / "history") if options.save else Places(None, None)
    conversation = Conversation(begin_session(options, chat), model, kept, plain=options.plain, resumed=chat)
    conversation.run(f"{model.name}{context} · /help lists the commands, Ctrl-D leaves")
