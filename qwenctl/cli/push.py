"""`qwenctl push`: send a model to its registry."""

import msgspec

from qwenctl.cli.options import InsecureRegistry, Json, Model, Quiet
from qwenctl.cli.output import Printer
from qwenctl.errors import UsageError
from qwenctl.units import render_bytes


class Pushed(msgspec.Struct, frozen=True):
    """The data of `push --json`. `moved_bytes` is what really went over."""

    name: str
    reference: str
    id: str
    moved_bytes: int
    blobs_moved: int
    blobs_present: int


def push(
    model: Model, insecure_registry: InsecureRegistry = None, quiet: Quiet = False, json: Json = False
) -> None:
    """Send a model of the store to the registry in its name.

    Example: qwenctl tag guide localhost:5000/me/guide && qwenctl push localhost:5000/me/guide
    """
    from qwenctl.cli.progress import watch
    from qwenctl.cli.wiring import load_settings, open_catalog, open_remote, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.push import push as push_model
    from qwenctl.oci.reference import BUILT_IN

    settings = load_settings(insecure_registry)
    store = open_store(settings)
    found = find(model, store, open_catalog(), settings.registry)
    reference = found.reference
    if reference is None or reference.registry == BUILT_IN:
        raise UsageError(
            f"`{found.name}` belongs to no registry that can be pushed to",
            hint=f"`qwenctl tag {found.name} HOST/NAME[:TAG]` first",
        )
    printer = Printer("push", json, quiet)
    with open_remote(reference, settings, store) as repository, watch(printer) as observe:
        copied = push_model(found, reference, store, repository, observe)
    pushed = Pushed(
        reference.familiar(),
        str(reference),
        str(copied.root.digest),
        copied.moved_bytes,
        copied.blobs_moved,
        copied.blobs_present,
    )
    text = f"pushed {pushed.name} ({render_bytes(copied.moved_bytes)} sent)"
    printer.result(pushed, pushed.id if quiet else text)
