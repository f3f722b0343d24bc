"""`qwenctl help`: the help of the program, or of one command."""

from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError


class HelpText(msgspec.Struct, frozen=True):
    """The data of `help --json`: the text that a person sees."""

    command: str
    text: str


def help_(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", help="A command, such as `config set`.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the commands, or all about one command: the same as `--help`.

    Example: qwenctl help pull
    """
    from qwenctl.cli.suggest import did_you_mean
    from qwenctl.cli.tree import find

    path = tuple(words or ())
    found = find(path)
    if found is None:
        known = find(())
        assert known is not None
        near = did_you_mean(path[0], known.command_names)
        raise UsageError(f"there is no command `{' '.join(path)}`", hint=near or "see `qwenctl help`")
    text = found.help_text.rstrip("\n")
    Printer("help", json).result(HelpText(" ".join(path), text), text)
