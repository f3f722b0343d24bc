"""`qwenctl tag`: give a model another name."""

from typing import Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer
from qwenctl.errors import InvalidReference


class Tagged(msgspec.Struct, frozen=True):
    """The data of `tag --json`."""

    name: str
    reference: str
    id: str


def tag(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A model in the store.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Its new name: NAME[:TAG].")],
    json: Json = False,
) -> None:
    """Give a model in the store another name. The content is shared, not copied.

    Example: qwenctl tag qwen2.5 localhost:5000/me/qwen2.5:tested
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.names import parse_name

    settings, catalog = load_settings(), open_catalog()
    store = open_store(settings)
    found = find(source, store, catalog, settings.registry)
    name = parse_name(target, catalog, settings.registry)
    if name.pinned:
        raise InvalidReference(f"`{target}` pins a digest, a new name is a tag", hint="write NAME:TAG")
    store.tag(found.root, name)
    tagged = Tagged(name.familiar(), str(name), str(found.root.digest))
    Printer("tag", json).result(tagged, f"tagged {tagged.name}")
