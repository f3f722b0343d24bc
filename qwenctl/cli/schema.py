"""`qwenctl schema`: the JSON Schemas of what `--json` prints. They ship with the program."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError

SCHEMAS: Final = Path(__file__).with_name("schemas")
"""Where the generated files are."""


class SchemaReport(msgspec.Struct, frozen=True):
    """The data of `schema --json`: the names of all schemas, and the one that was asked for."""

    schemas: list[str]
    name: str | None
    document: msgspec.Raw | None


def schema(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", help="A command, such as `config list`.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the JSON Schema of what a command prints with --json; without one, list the commands.

    Examples: qwenctl schema · qwenctl schema list · qwenctl schema config list
    """
    from qwenctl.cli.app import ALIASES
    from qwenctl.cli.contract import CONTRACTS
    from qwenctl.cli.suggest import did_you_mean

    known = ["envelope", *CONTRACTS]
    printer = Printer("schema", json)
    if not words:
        printer.result(SchemaReport(known, None, None), "\n".join(known))
        return
    name = " ".join([ALIASES.get(words[0], words[0]), *words[1:]])
    if name not in known:
        raise UsageError(
            f"there is no schema for `{name}`",
            hint=did_you_mean(name, known) or "`qwenctl schema` lists them",
        )
    text = (SCHEMAS / f"{name.replace(' ', '-')}.json").read_text(encoding="utf-8")
    compact = msgspec.Raw(msgspec.json.format(text.encode(), indent=-1))
    printer.result(SchemaReport(known, name, compact), text.rstrip("\n"))
