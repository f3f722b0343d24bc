"""`qwenctl tag`: give a model another name."""

from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import Json, Quiet
from qwenctl.cli.output import Printer


class Tagged(msgspec.Struct, frozen=True):
    """The data of `tag --json`."""

    name: str
    reference: str
    id: str


def tag(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model in the store.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Its new name: NAME[:TAG].")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Give a model in the store another name. The content is shared, not copied.

    Example: qwenctl tag qwen2.5 localhost:5000/me/qwen2.5:tested
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.tag import tag as give_name

    settings, catalog = load_settings(), open_catalog()
    found, name = give_name(source, target, open_store(settings), catalog, settings.registry)
    tagged = Tagged(name.familiar(), str(name), str(found.root.digest))
    Printer("tag", json).result(tagged, tagged.id if quiet else f"tagged {tagged.name}")
