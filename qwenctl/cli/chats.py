"""`qwenctl chats`: the conversations that `run` saved."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer, ago, counted, table
from qwenctl.errors import Conflict, UsageError

if TYPE_CHECKING:
    from qwenctl.chat.archive import Archive, Chat

app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)

Id = Annotated[str, typer.Argument(metavar="ID", help="A chat's id, or its beginning.")]


class SavedChat(msgspec.Struct, frozen=True):
    """One row of `chats list --json`. Times are RFC 3339; `title` is the beginning of the first question."""

    id: str
    model: str
    title: str
    messages: int
    created: str
    updated: str
    path: str


class ChatListing(msgspec.Struct, frozen=True):
    """The data of `chats list --json`, the latest first."""

    chats: list[SavedChat]


class SavedTurn(msgspec.Struct, frozen=True):
    """One turn of a chat; `files` are the names of those that went with it."""

    role: Literal["user", "assistant"]
    text: str
    files: list[str]
    thinking: str
    interrupted: bool


class ChatReport(msgspec.Struct, frozen=True):
    """The data of `chats show --json`."""

    chat: SavedChat
    system: str
    turns: list[SavedTurn]


class ChatRemoval(msgspec.Struct, frozen=True):
    """The data of `chats rm --json`."""

    removed: list[str]


class ChatExport(msgspec.Struct, frozen=True):
    """The data of `chats export --json`. `path` is the file that was written, null for none."""

    id: str
    format: str
    path: str | None
    text: str


@app.callback()
def root() -> None:
    """Show, export and remove the conversations that `run` saved."""


@app.command("list")
def list_chats(json: Json = False, quiet: Quiet = False) -> None:
    """List the saved chats, the latest first. Go on with one: qwenctl run --resume ID

    Example: qwenctl chats list
    """
    archive, printer = _open(), Printer("chats list", json)
    chats, problems = archive.chats()
    for problem in problems:
        printer.note(f"warning: {problem.message}")
    rows = [(c.id, c.model, str(len(c.turns)), ago(c.updated), _title(c)) for c in chats]
    headers = ("CHAT ID", "MODEL", "MESSAGES", "UPDATED", "TITLE")
    text = "\n".join(chat.id for chat in chats) if quiet else table(headers, rows)
    printer.result(ChatListing([_row(chat, archive) for chat in chats]), text)


@app.command("show")
def show(chat: Id, json: Json = False) -> None:
    """Print a chat.

    Example: qwenctl chats show 3f2a
    """
    from qwenctl.chat.archive import transcript
    from qwenctl.chat.plain import plain

    archive = _open()
    found = archive.read(chat)
    turns = [
        SavedTurn(t.role, t.text, [file.name for file in t.files], t.thinking, t.interrupted)
        for t in found.turns
    ]
    report = ChatReport(_row(found, archive), found.system, turns)
    Printer("chats show", json).result(report, plain(transcript(found)).rstrip("\n"))


@app.command("rm")
def rm(
    chats: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Ids, or their beginnings.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every chat.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Ask nothing.")] = False,
    json: Json = False,
) -> None:
    """Remove saved chats. The models stay.

    Examples: qwenctl chats rm 3f2a · qwenctl chats rm --all
    """
    archive, printer = _open(), Printer("chats rm", json)
    if bool(chats) == all_:
        raise UsageError("name chats to remove, or give --all", hint="`qwenctl chats list` lists them")
    if all_:
        ids = sorted(archive.ids())
        _ask(len(ids), force, json)
    else:
        ids = list(dict.fromkeys(archive.read(chat).id for chat in chats or ()))
    for name in ids:
        archive.remove(name)
    printer.result(ChatRemoval(ids), "\n".join(f"removed {name}" for name in ids))


@app.command("export")
def export(
    chat: Id,
    form: Annotated[
        Literal["md", "json"], typer.Option("--format", help="Markdown, or what `/load` reads.")
    ] = "md",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A new file instead of stdout.")
    ] = None,
    json: Json = False,
) -> None:
    """Write a chat as Markdown or JSON.

    Example: qwenctl chats export 3f2a -o chat.md
    """
    from qwenctl.chat.archive import encode, transcript, write_private
    from qwenctl.chat.plain import plain

    found = _open().read(chat)
    text = encode(found).decode() if form == "json" else transcript(found)
    if output is not None:
        if output.exists():
            raise Conflict(f"`{output}` exists", hint="choose another name, or remove it first")
        write_private(output, text.encode())
    printed = plain(text) if sys.stdout.isatty() else text
    shown = f"wrote {output}" if output else printed.rstrip("\n")
    report = ChatExport(found.id, form, str(output) if output else None, text)
    Printer("chats export", json).result(report, shown)


def _open() -> "Archive":
    from qwenctl.cli.run_chat import open_archive
    from qwenctl.cli.wiring import load_settings

    return open_archive(load_settings())


def _ask(count: int, force: bool, as_json: bool) -> None:
    """Raises: UsageError, unless it is to be, or the person says yes."""
    from qwenctl.cli.terminal import confirmed, interactive

    if force or not count:
        return
    if as_json or not interactive():
        raise UsageError("nobody can be asked whether all chats shall go", hint="give --force")
    if not confirmed(f"remove {counted(count, 'chat')}?"):
        raise UsageError("nothing was removed")


def _title(chat: "Chat") -> str:
    from qwenctl.chat.plain import plain
    from qwenctl.chat.session import title

    return plain(title(chat.turns))


def _row(chat: "Chat", archive: "Archive") -> SavedChat:
    created, updated = (
        moment.isoformat(timespec="seconds").replace("+00:00", "Z") for moment in (chat.created, chat.updated)
    )
    path = str(archive.path(chat.id))
    return SavedChat(chat.id, chat.model, _title(chat), len(chat.turns), created, updated, path)
