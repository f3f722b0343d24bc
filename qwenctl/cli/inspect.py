"""`qwenctl inspect`: manifest, model config and layers of a model, as JSON."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from qwenctl.cli.options import InsecureRegistry, Json, Model
from qwenctl.cli.output import Printer, encode, write_line
from qwenctl.errors import UsageError

if TYPE_CHECKING:
    from qwenctl.flows.views import Inspection
    from qwenctl.settings import Settings


def inspect(
    model: Model,
    remote: Annotated[
        bool, typer.Option("--remote", "-r", help="As its registry has it; nothing is downloaded.")
    ] = False,
    openai: Annotated[bool, typer.Option("--openai", help="As OpenAI's model object.")] = False,
    insecure_registry: InsecureRegistry = None,
    json: Json = False,
) -> None:
    """Show the manifest, the model config and the layers of a model as JSON.

    Examples: qwenctl inspect guide | jq -r '.layers[].digest' · qwenctl inspect --remote qwen2.5
    """
    from qwenctl.cli.wiring import load_settings

    if openai and (json or remote):
        raise UsageError("`--openai` is a form of its own", hint="leave out `--json` and `--remote`")
    settings = load_settings(insecure_registry)
    if openai:
        _print_openai(model, settings)
        return
    inspection = _at_registry(model, settings) if remote else _in_store(model, settings)
    Printer("inspect", json).result(inspection, _pretty(inspection))


def _in_store(model: str, settings: "Settings") -> "Inspection":
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.views import inspect as inspect_model

    store = open_store(settings)
    return inspect_model(find(model, store, open_catalog(), settings.registry), store)


def _at_registry(model: str, settings: "Settings") -> "Inspection":
    from qwenctl.cli.wiring import open_catalog, open_source, open_store
    from qwenctl.flows.find import Found
    from qwenctl.flows.spelling import parse_wanted, resolve
    from qwenctl.flows.views import inspect as inspect_model

    catalog = open_catalog()
    reference = parse_wanted(model, catalog, settings.registry)
    with open_source(reference, settings, catalog) as source:
        named, root = resolve(reference, source, catalog, open_store(settings))
        return inspect_model(Found(named, root), source)


def _print_openai(model: str, settings: "Settings") -> None:
    from qwenctl.cli.list import OpenAiModel
    from qwenctl.cli.wiring import open_catalog, open_store
    from qwenctl.flows.find import find
    from qwenctl.flows.views import view

    store = open_store(settings)
    write_line(encode(OpenAiModel.of(view(find(model, store, open_catalog(), settings.registry), store))))


def _pretty(inspection: "Inspection") -> str:
    formatted: Any = msgspec.json.format(encode(inspection), indent=2)
    return str(formatted)
