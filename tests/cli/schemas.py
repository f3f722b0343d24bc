"""The shipped schemas, as any validator reads them; stricter here, so that no field is untold."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError

from qwenctl.cli.schema import SCHEMAS


def schema_of(name: str) -> dict[str, Any]:
    """The shipped schema of a command, `envelope` among them."""
    text = (SCHEMAS / f"{name.replace(' ', '-')}.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema


def check_output(command: str, out: str) -> None:
    """Every line on stdout is one of the lines that the command's schema knows, with no field beside."""
    validator = Draft202012Validator(_closed(schema_of(command)))
    lines = out.splitlines()
    assert lines
    for line in lines:
        problems = [*_told(validator.iter_errors(json.loads(line)))]
        assert not problems, "\n".join(problems)
    Draft202012Validator(schema_of("envelope")).validate(json.loads(lines[-1]))


def _closed(node: Any) -> Any:
    """The schema without room for further fields; a mapping with free keys keeps its own rule."""
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    closed = {key: _closed(value) for key, value in node.items()}
    if isinstance(closed.get("properties"), dict) and "additionalProperties" not in closed:
        closed["additionalProperties"] = False
    return closed


def _told(errors: Iterable[ValidationError]) -> Iterator[str]:
    """Every reason, those of the alternatives too."""
    for error in errors:
        yield f"{error.json_path}: {error.message[:200]}"
        yield from _told(error.context or ())
