"""The tree of commands as `names` reads it at each Tab: JSON, made by `make generate`."""

from collections.abc import Iterable
from typing import Any

from qwenctl.cli.tree import CommandSpec


def render(tree: CommandSpec, models: Iterable[str]) -> str:
    """The text of `completion.json`; `models` are the names of the catalogue: reading cards takes long."""
    import json

    spec = _node(tree) | {"models": sorted(models)}
    return json.dumps(spec, indent=1, ensure_ascii=False) + "\n"


def _node(spec: CommandSpec) -> dict[str, Any]:
    node: dict[str, Any] = {"summary": spec.summary}
    node["options"] = {
        name: [option.kind or ("text" if option.value else ""), option.help]
        for option in spec.options
        for name in option.names
    }
    if spec.commands:
        node["commands"] = {below.path[-1]: _node(below) for below in spec.commands}
        node["aliases"] = {alias: below.path[-1] for below in spec.commands for alias in below.aliases}
    else:
        node["arguments"] = [argument.kind for argument in spec.arguments]
        node["many"] = any(argument.many for argument in spec.arguments)
    return node
