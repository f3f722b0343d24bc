"""What several JSON Schemas ask together, as schemas without `$ref`, `allOf`, `anyOf`, `oneOf` on top. Pure.

Source: JSON Schema 2020-12, sections 10.2 and 10.3.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from qwenctl.errors import InvalidRequest

DEEPEST: Final = 64
MOST_ALTERNATIVES: Final = 128
NOTES: Final = frozenset(
    {"title", "description", "default", "example", "examples", "$schema", "$id", "$comment", "$anchor"}
    | {"$defs", "definitions", "deprecated", "readOnly", "writeOnly"}
    | {"contentEncoding", "contentMediaType", "contentSchema", "discriminator", "externalDocs", "xml"}
)
"""Keywords that ask nothing. Source: JSON Schema 2020-12, Validation, 8 and 9; OpenAPI 3.0, Schema Object."""
COMBINATORS: Final = frozenset({"$ref", "allOf", "anyOf", "oneOf"})

Schema = dict[str, Any]
Find = Callable[[object, str], object]
"""The schema that a `$ref` at a place means."""

_HIGHER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_LOWER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_BOTH: Final = ("items", "additionalItems", "propertyNames")


class _Impossible(Exception):
    """Nothing follows both schemas."""


def asks(schema: Mapping[str, Any]) -> set[str]:
    """The keywords of a schema that ask something."""
    return {word for word in schema if word not in NOTES and not word.startswith("x-")}


def alternatives(schema: object, place: str, find: Find, depth: int = 0) -> list[Schema]:
    """Schemas of one layer; what follows one of them follows `schema`. None where nothing can.

    Raises: InvalidRequest for what cannot be put together, or too much of it.
    """
    if depth > DEEPEST:
        raise InvalidRequest(f"the schema is nested deeper than {DEEPEST} levels at `{place[:300]}`")
    if isinstance(schema, bool):
        return [{}] if schema else []
    if not isinstance(schema, dict):
        raise refused(place, "no schema")
    if schema.get("nullable") is True:
        plain = {word: value for word, value in schema.items() if word != "nullable"}
        return [*alternatives(plain, place, find, depth + 1), {"type": "null"}]
    found: list[Schema] = [{word: schema[word] for word in asks(schema) - COMBINATORS - {"nullable"}}]
    if "$ref" in schema:
        target = find(schema["$ref"], place)
        found = _together(found, alternatives(target, str(schema["$ref"]), find, depth + 1), place)
    for number, item in enumerate(schemas_of(schema, "allOf", place)):
        found = _together(found, alternatives(item, f"{place}/allOf/{number}", find, depth + 1), place)
    for word in ("anyOf", "oneOf"):  # a grammar cannot see to it that but one is followed
        if word in schema:
            options = [
                option
                for number, item in enumerate(schemas_of(schema, word, place))
                for option in alternatives(item, f"{place}/{word}/{number}", find, depth + 1)
            ]
            found = _together(found, options, place)
    return found


def schemas_of(schema: Schema, word: str, place: str) -> list[object]:
    """The list under a keyword, empty when it is not there. Raises: InvalidRequest when it is none."""
    items = schema.get(word)
    if word not in schema:
        return []
    if not isinstance(items, list) or not items:
        raise refused(f"{place}/{word}", "not a list of schemas")
    return items


def refused(place: str, why: str) -> InvalidRequest:
    """The error for what a grammar cannot say."""
    return InvalidRequest(f"the schema at `{place[:300]}`: {why}", hint="a grammar cannot enforce it")


def _together(ones: list[Schema], others: list[Schema], place: str) -> list[Schema]:
    if len(ones) * len(others) > MOST_ALTERNATIVES:
        raise refused(place, f"it allows more than {MOST_ALTERNATIVES} combinations")
    merged = []
    for one in ones:
        for other in others:
            try:
                merged.append(_merged(one, other, place))
            except _Impossible:
                continue
    return merged


def _merged(one: Schema, other: Schema, place: str) -> Schema:
    """Both. Raises: _Impossible; InvalidRequest where it cannot be said in one schema."""
    one, other = _closed(one, other), _closed(other, one)
    both = {**one, **other}
    if "type" in one and "type" in other:
        both["type"] = _types_in_both(one["type"], other["type"])
    if "const" in both or "enum" in both:
        values = [
            value for value in _values(one, other) if all(_among(value, schema) for schema in (one, other))
        ]
        if not values:
            raise _Impossible
        both.pop("const", None)
        both["enum"] = values
    for word in one.keys() & other.keys() - {"type", "const", "enum"}:
        both[word] = _both(word, one[word], other[word], place)
    return both


def _both(word: str, one: Any, other: Any, place: str) -> Any:
    if one == other:
        return one
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if word in _HIGHER and numbers:
        return max(one, other)
    if word in _LOWER and numbers:
        return min(one, other)
    if word == "properties" and isinstance(one, dict) and isinstance(other, dict):
        return {
            **one,
            **other,
            **{name: _all_of(one[name], other[name]) for name in one.keys() & other.keys()},
        }
    if word == "required" and isinstance(one, list) and isinstance(other, list):
        return [*one, *(name for name in other if name not in one)]
    if word == "additionalProperties":
        return _all_of(one, other)
    if word in _BOTH and not isinstance(one, list) and not isinstance(other, list):
        return _all_of(one, other)
    raise refused(f"{place}/{word}", "two of them cannot be put together")


def _all_of(one: Any, other: Any) -> Any:
    if one == other:
        return one
    return False if one is False or other is False else {"allOf": [one, other]}


def _closed(one: Schema, other: Schema) -> Schema:
    """`one` with what it asks of the properties that only `other` names.

    Source: JSON Schema 2020-12, 10.3.2.3: `additionalProperties` looks at the properties beside it alone.
    """
    more, named, others = (
        one.get("additionalProperties", True),
        one.get("properties", {}),
        other.get("properties", {}),
    )
    if more is True or not isinstance(named, dict) or not isinstance(others, dict):
        return one
    return {**one, "properties": {**named, **{name: more for name in others if name not in named}}}


def _types_in_both(one: Any, other: Any) -> list[str]:
    ones, others = (item if isinstance(item, list) else [item] for item in (one, other))
    shared = [kind for kind in ones if kind in others]
    if "integer" in [*ones, *others] and "number" in [*ones, *others] and "integer" not in shared:
        shared.append("integer")
    if not shared:
        raise _Impossible
    return shared


def _values(one: Schema, other: Schema) -> list[Any]:
    for schema in (one, other):
        if "const" in schema:
            return [schema["const"]]
    lists = [schema["enum"] for schema in (one, other) if isinstance(schema.get("enum"), list)]
    return min(lists, key=len) if lists else []


def _among(value: Any, schema: Schema) -> bool:
    """Whether the values of a schema, if it lists any, hold `value`. `True` is not 1 here."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return values is None or any(known == value and type(known) is type(value) for known in values)
