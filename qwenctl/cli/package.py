"""`qwenctl package`: make a model from a GGUF file."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer


class Packaged(msgspec.Struct, frozen=True):
    """The data of `package --json`."""

    name: str
    reference: str
    id: str
    pushed: bool


def package(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new model's name: NAME[:TAG].")],
    gguf: Annotated[Path, typer.Option("--gguf", metavar="FILE", help="The weights, a GGUF file.")],
    license_: Annotated[
        list[Path] | None, typer.Option("--license", "-l", metavar="FILE", help="A licence; repeatable.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option("--chat-template", metavar="FILE", help="A Jinja template instead of the weights' own."),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Send it to its registry afterwards.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a model in the store from a GGUF file.

    Example: qwenctl package --gguf ./model.gguf localhost:5000/me/model:v1 --push
    """
    from qwenctl.cli.progress import watch
    from qwenctl.cli.wiring import load_settings, open_catalog, open_remote, open_store
    from qwenctl.flows.copy import copy
    from qwenctl.flows.create import Parts, create
    from qwenctl.flows.tag import parse_new_name

    settings = load_settings()
    store = open_store(settings)
    reference = parse_new_name(name, open_catalog(), settings.registry)
    manifest = create(Parts(gguf, tuple(license_ or ()), chat_template), store, reference)
    printer = Printer("package", json, quiet)
    if push:
        with open_remote(reference, settings, store) as repository, watch(printer) as observe:
            copy(store, reference, repository, observe=observe)
    short = reference.familiar()
    packaged = Packaged(short, str(reference), str(manifest.descriptor.digest), push)
    text = packaged.id if quiet else f"packaged {short}" + (" and pushed it" if push else "")
    printer.result(packaged, text)
