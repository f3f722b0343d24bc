"""`qwenctl inspect`: manifest, model config and layers of a stored model, as JSON."""

from typing import TYPE_CHECKING, Any

import msgspec

from qwenctl.cli.options import Json, Model
from qwenctl.cli.output import Printer, encode

if TYPE_CHECKING:
    from qwenctl.flows.views import Inspection


def inspect(model: Model, json: Json = False) -> None:
    """Show the manifest, the model config and the layers of a stored model as JSON.

    Example: qwenctl inspect guide | jq -r '.layers[].digest'
    """
    from qwenctl.cli.wiring import load_settings, open_catalog, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.views import inspect as inspect_model

    settings = load_settings()
    store = open_store(settings)
    found = find(model, store, open_catalog(), settings.registry)
    inspection = inspect_model(found, store)
    Printer("inspect", json).result(inspection, _pretty(inspection))


def _pretty(inspection: "Inspection") -> str:
    formatted: Any = msgspec.json.format(encode(inspection), indent=2)
    return str(formatted)
