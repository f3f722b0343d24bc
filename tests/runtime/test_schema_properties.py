"""Schemas, their grammars and an independent validator: what one derives, the other takes."""

import json
import random
from typing import Any

import jsonschema
import pytest

from qwenctl.runtime.schema import grammar_of
from tests.runtime.grammar_reader import read

FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER

NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer", "maximum": -3},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    },
    "required": ["value"],
    "additionalProperties": False,
}
PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}, "required": ["name"]}
AGED = {"properties": {"age": {"type": "integer", "minimum": 0, "maximum": 130}}, "required": ["age"]}

CASES: list[tuple[dict[str, Any], list[Any]]] = [
    ({"type": "integer", "minimum": 3, "maximum": 1017}, [3, 10, 999, 1000, 1017]),
    ({"type": "integer", "exclusiveMinimum": -20, "exclusiveMaximum": 5}, [-19, -1, 0, 4]),
    ({"type": "integer", "minimum": 2.5}, [3, 4, 10, 123456]),
    ({"type": "number", "minimum": -0.25, "maximum": 1.5}, [-0.25, -0.1, 0, 0.75, 1.5, 1.05]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "äö", 'q"\n']),
    ({"type": "string", "minLength": 1200, "maxLength": 2500}, ["x" * 1200, "y" * 2500]),
    ({"type": "string", "pattern": "^[a-z_][a-z0-9_]*$", "maxLength": 4}, ["a", "_", "ab12"]),
    ({"type": "string", "pattern": "ab+"}, ["ab", "xabbby", '"ab"']),
    ({"type": "string", "pattern": '^"\\\\$|^[^\\x00-\\x20]y'}, ['"\\', "xyz", '"y']),
    ({"type": "string", "format": "date"}, ["2026-02-28"]),
    ({"type": "string", "format": "time"}, ["23:59:59Z", "00:00:00.125+02:00"]),
    ({"type": "string", "format": "date-time"}, ["2026-02-28T23:59:59Z"]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"]),
    ({"type": "string", "format": "email"}, ["ada.lovelace@example.com"]),
    ({"type": "string", "format": "ipv4"}, ["127.0.0.1", "255.10.0.9"]),
    ({"type": "string", "format": "uri"}, ["https://example.com/a?b=c", "urn:x"]),
    ({"type": "string", "format": "duration"}, ["P3D", "PT1H30M", "P1Y2M3D"]),
    ({"enum": ["a", 1, None, [1, {"b": True}]]}, ["a", 1, None, [1, {"b": True}]]),
    ({"type": ["string", "integer"], "minLength": 2, "minimum": 5, "maximum": 7}, ["ab", 5, 7]),
    ({"allOf": [PERSON, AGED]}, [{"name": "Ada", "age": 36}]),
    ({**PERSON, "allOf": [{"properties": {"name": {"minLength": 2}}}]}, [{"name": "Al"}]),
    ({"anyOf": [PERSON, AGED, {"type": "null"}]}, [None, {"age": 0}, {"name": ""}]),
    (
        {
            "type": "object",
            "properties": {"a": {"const": 1}, "b": {"const": 2}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
            "additionalProperties": False,
        },
        [{"a": 1}, {"b": 2}, {"a": 1, "b": 2}],
    ),
    (
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        [{"value": -3, "next": {"value": -10, "next": None}}],
    ),
    (
        {"allOf": [{"$ref": "#/$defs/p"}], "properties": {"age": {"const": 1}}, "$defs": {"p": PERSON}},
        [{"age": 1, "name": ""}, {"name": "x"}],
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"const": 1}, "ab": {"const": 2}, 'b"\n': {"type": "null"}},
            "additionalProperties": {"type": "boolean"},
        },
        [
            {},
            {"a": 1, "ab": 2, 'b"\n': None},
            {"abc": True, "b": False, "": True},
            {"b\\": True},
            {"A": False},
        ],
    ),
    ({"properties": {"a": {}}, "additionalProperties": True}, [{"a": 1, "b": [{}]}, {"b": None}]),
    (
        {"patternProperties": {"^x[0-9]$": {"type": "null"}}, "additionalProperties": False},
        [{}, {"x1": None, "x2": None}],
    ),
    ({"type": "object", "propertyNames": {"enum": ["k", "l"]}, "maxProperties": 2}, [{}, {"k": 1, "l": []}]),
    ({"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}, [{"q": 7}]),
    ({"type": "object", "required": ["z"], "properties": {"a": {"const": 0}}}, [{"z": 1}, {"a": 0, "z": {}}]),
    ({"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 3}, [[1, 2], [2, 2, 2]]),
    (
        {"prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 1, "maxItems": 4},
        [[1], [1, 2], [1, 2, 3, 3]],
    ),
    ({"prefixItems": [{"const": 1}, {"const": 2}], "items": False}, [[1, 2]]),
    ({"prefixItems": [{"const": 1}, {"const": 2}], "maxItems": 1}, [[1]]),
    ({"type": "array", "items": True, "minItems": 1}, [[{}], [1, "a", [None]]]),
]


@pytest.mark.parametrize(("schema", "instances"), CASES)
def test_what_the_grammar_derives_follows_the_schema(schema: dict[str, Any], instances: list[Any]) -> None:
    """Any text of it is JSON that the validator takes, formats too (days that a month has not apart)."""
    rules = read(grammar_of(schema))
    dates = schema.get("format") in ("date", "date-time")
    validator = jsonschema.Draft202012Validator(schema, format_checker=None if dates else FORMATS)
    said = set()
    for seed in range(60 if schema.get("maxLength", 0) < 100 else 4):
        text = rules.say(random.Random(seed))
        validator.validate(json.loads(text))
        said.add(text)
    assert len(said) > 1


@pytest.mark.parametrize(("schema", "instances"), CASES)
def test_what_follows_the_schema_is_derived(schema: dict[str, Any], instances: list[Any]) -> None:
    """As it is usually written, with spaces and without."""
    rules = read(grammar_of(schema))
    for instance in instances:
        jsonschema.validate(instance, schema)
        spaced = json.dumps(instance, ensure_ascii=False)
        close = json.dumps(instance, ensure_ascii=False, separators=(",", ":"))
        assert rules.derives(spaced) and rules.derives(close), instance


@pytest.mark.parametrize(
    ("schema", "instances"),
    [
        ({"type": "integer", "minimum": 3, "maximum": 1017}, [2, 1018, -5, 3.5, 20000]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, [0, 1.01, -0.5, 2]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["a", "abcd", 12]),
        ({"type": "string", "pattern": "^[a-z_][a-z0-9_]*$", "maxLength": 4}, ["1a", "abcde", "A", ""]),
        ({"allOf": [PERSON, AGED]}, [{"name": "Ada"}, {"age": 3}, {"name": "Ada", "age": 131}]),
        ({"properties": {"a": {"const": 1}}, "additionalProperties": {"type": "boolean"}}, [{"a": True}]),
        (
            {"allOf": [{**PERSON, "additionalProperties": False}, {"properties": {"x": {}}}]},
            [{"name": "", "x": 1}],
        ),
        ({"prefixItems": [{"const": 1}], "items": {"const": 3}, "maxItems": 2}, [[], [2], [1, 1], [1, 3, 3]]),
    ],
)
def test_what_does_not_follow_the_schema_is_not(schema: dict[str, Any], instances: list[Any]) -> None:
    """Neither the neighbours of the bounds nor other types."""
    rules = read(grammar_of(schema))
    assert [value for value in instances if rules.derives(json.dumps(value))] == []


@pytest.mark.parametrize("schema", [True, {"type": "string"}])
def test_no_half_of_a_character_is_said(schema: object) -> None:
    """JSON could write it, but no UTF-8 could carry it."""
    rules = read(grammar_of({"type": "array", "items": schema}))
    for half in ("d83d", "DE00", "dFff"):
        assert not rules.begins(f'["\\u{half}')
    assert rules.begins('["\\ud7ff')
    for seed in range(30):
        json.dumps(json.loads(rules.say(random.Random(seed))), ensure_ascii=False).encode()
