"""JSON Schemas (2020-12) of what `--json` prints, made from the types in the code (`make generate`).

The types are imported for this, those of annotations too, which a running command leaves alone.
"""

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any, Final

import msgspec

from qwenctl.cli.contract import CONTRACTS, Contract
from qwenctl.cli.output import SCHEMA
from qwenctl.errors import QwenctlError, error_classes

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REF: Final = "#/$defs/{name}"
ANY: Final = "envelope"
"""The name of the schema that holds for every command, and for words that are none."""

Document = dict[str, Any]


def render_all() -> dict[str, str]:
    """The text of every schema file by its name."""
    files = {file_name(command): _render(_schema(command, it)) for command, it in CONTRACTS.items()}
    return files | {file_name(ANY): _render(_any_schema())}


def file_name(command: str) -> str:
    """`config-list.json` for `config list`."""
    return f"{command.replace(' ', '-')}.json"


def _render(schema: Document) -> str:
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _schema(command: str, contract: Contract) -> Document:
    """The schema of one line of output: of the envelope, and of the lines before it."""
    places = [place for place in (contract.data, *contract.lines) if place]
    types = [_load(place) for place in places]
    _complete_annotations()
    refs, defs = msgspec.json.schema_components(types, schema_hook=_as_text, ref_template=_REF)
    _require_all(types, defs)
    for component in defs.values():
        if "description" in component:
            component["description"] = cleandoc(component["description"])
    by_place = dict(zip(places, refs, strict=True))
    data: Any = by_place[contract.data] if contract.data else {"type": "null"}
    failure = {"anyOf": [data, {"type": "null"}]} if contract.failure_data else {"type": "null"}
    defs["Success"] = _envelope({"const": command}, "ok", {"const": 0}, data, {"maxItems": 0})
    defs["Failure"] = _envelope({"const": command}, "error", _statuses(), failure, {"minItems": 1})
    defs["Error"] = _error()
    last = [{"$ref": _REF.format(name=name)} for name in ("Success", "Failure")]
    about = "The document on stdout."
    if contract.lines:
        about = "Every line on stdout; the last one is `Success` or `Failure`."
    return {
        "$schema": _DIALECT,
        "$id": f"urn:qwenctl:schema:{SCHEMA}:{command.replace(' ', '-')}",
        "title": f"qwenctl {command} --json",
        "description": about,
        "anyOf": [*(by_place[line] for line in contract.lines), *last],
        "$defs": dict(sorted(defs.items())),
    }


def _any_schema() -> Document:
    text: Document = {"type": "string"}
    return {
        "$schema": _DIALECT,
        "$id": f"urn:qwenctl:schema:{SCHEMA}:{ANY}",
        "title": "the envelope of every command",
        "description": "The last line on stdout with `--json`, also for a command that does not exist.",
        "anyOf": [
            _envelope(text, "ok", {"const": 0}, {}, {"maxItems": 0}),
            _envelope(text, "error", _statuses(), {}, {"minItems": 1}),
        ],
        "$defs": {"Error": _error()},
    }


def _envelope(
    command: Document, status: str, exit_code: Document, data: Document, errors: Document
) -> Document:
    properties = {
        "schema": {"const": SCHEMA},
        "command": command,
        "status": {"const": status},
        "exit_code": exit_code,
        "data": data,
        "errors": {"type": "array", "items": {"$ref": _REF.format(name="Error")}, **errors},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _error() -> Document:
    codes = sorted({cls.code for cls in error_classes()})
    return {
        "type": "object",
        "properties": {
            "code": {"enum": codes},
            "message": {"type": "string"},
            "hint": {"type": "string"},
        },
        "required": ["code", "message"],
    }


def _statuses() -> Document:
    return {"enum": sorted({cls.exit_code for cls in error_classes(QwenctlError)})}


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def _as_text(kind: type) -> Document:
    """How `encode` writes what JSON has no type for: digests and paths as text; an `object` is anything."""
    return {"description": "any JSON"} if kind is object else {"type": "string"}


def _complete_annotations() -> None:
    """Import what our modules import for the type checker alone: annotations are read with it."""
    done: set[str] = set()
    while todo := [name for name in sys.modules if name.split(".")[0] == "qwenctl" and name not in done]:
        for name in todo:
            done.add(name)
            module = sys.modules[name]
            for statement in _typing_imports(Path(module.__file__ or "")):
                exec(compile(ast.Module([statement], []), name, "exec"), module.__dict__)  # noqa: S102 - our own


def _typing_imports(path: Path) -> Iterator[ast.stmt]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield from node.body


def _require_all(types: list[Any], defs: dict[str, Document]) -> None:
    """Mark every field that is always written as required; msgspec does it for those without a default."""
    for kind in _structures(msgspec.inspect.multi_type_info(types)):
        config = getattr(kind.cls, "__struct_config__", None)
        if config is None or not config.omit_defaults:
            component = defs[kind.cls.__name__]
            tag = [config.tag_field] if config is not None and config.tag is not None else []
            component["required"] = [*tag, *(field.encode_name for field in kind.fields)]


def _structures(node: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """Every struct and dataclass that the types are made of, once."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, tuple | list):
        for item in node:
            yield from _structures(item, seen)
    elif isinstance(node, msgspec.inspect.Type | msgspec.inspect.Field):
        if isinstance(node, msgspec.inspect.StructType | msgspec.inspect.DataclassType):
            yield node
        for name in node.__struct_fields__:
            yield from _structures(getattr(node, name), seen)
