"""JSON Schemas as grammars: said by a model that would say anything, read back as JSON."""

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.engine import EngineOptions
from qwenctl.runtime.local import LlamaEngine, open_engine
from qwenctl.runtime.schema import ANY_OBJECT, grammar_of
from qwenctl.runtime.schema_merge import DEEPEST
from tests.runtime.runtime_builders import write_tiny_model
from tests.runtime.test_guided import say


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    """A model that talks at random, a byte a token."""
    path: Path = write_tiny_model(tmp_path_factory.mktemp("models") / "tiny.gguf", context_length=1024)
    options = EngineOptions(path=path, context_length=1024, slots=2, gpu_layers=0, flash_attention="off")
    engine = open_engine(options)
    yield engine
    engine.close()


def answers(engine: LlamaEngine, schema: object, count: int = 6) -> list[Any]:
    """What is said under a schema with different seeds, read as JSON; what did not end is left out."""
    said = (say(engine, 600, grammar=grammar_of(schema), seed=seed) for seed in range(count))
    return [json.loads(text) for text, reason in said if reason == "stop"]


SMALL: dict[str, Any] = {"type": "string", "maxLength": 3}


@pytest.mark.parametrize(
    ("schema", "follows"),
    [
        ({"const": {"a": [1, None]}}, lambda value: value == {"a": [1, None]}),
        ({"enum": ["red", 'gr"ün\n', 7, None]}, lambda value: value in ["red", 'gr"ün\n', 7, None]),
        ({"enum": [1, "a", None, 2.5, True], "type": ["integer", "null"]}, lambda value: value in (1, None)),
        ({"description": "any", "title": "value", "type": "boolean"}, lambda value: isinstance(value, bool)),
        ({"type": "boolean"}, lambda value: isinstance(value, bool)),
        ({"type": "integer"}, lambda value: isinstance(value, int) and not isinstance(value, bool)),
        ({"type": "number"}, lambda value: isinstance(value, int | float)),
        ({"type": "null"}, lambda value: value is None),
        ({"type": ["null", "boolean"]}, lambda value: value in (None, True, False)),
        ({"type": "string", "minLength": 2, "maxLength": 4}, lambda value: 2 <= len(value) <= 4),
        ({"type": "string", "format": "date"}, lambda value: len(value) == 10 and value[4] == "-"),
        ({"type": "string", "format": "uuid"}, lambda value: len(value) == 36),
        (
            {"type": "array", "items": {"enum": [1, 2]}, "minItems": 1, "maxItems": 3},
            lambda v: 1 <= len(v) <= 3,
        ),
        ({"type": "array", "items": {"enum": [1]}, "minItems": 2, "maxItems": 2}, lambda v: v == [1, 1]),
        ({"type": "array", "maxItems": 0}, lambda value: value == []),
        ({"prefixItems": [{"const": 1}, {"const": "b"}], "items": False}, lambda value: value == [1, "b"]),
        ({"anyOf": [{"const": 1}, {"const": "x"}]}, lambda value: value in (1, "x")),
        ({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}, lambda value: -3 <= value < 12),
        ({"exclusiveMinimum": 0, "maximum": 1}, lambda value: 0 < value <= 1),
        ({"pattern": r"^[A-Z]{2}-\d{3}$"}, lambda value: re.fullmatch(r"[A-Z]{2}-[0-9]{3}", value)),
        ({"pattern": "^[^a-y]*$", "maxLength": 4}, lambda value: re.fullmatch("[^a-y]{0,4}", value)),
        ({"format": "ipv4"}, lambda value: ipaddress.IPv4Address(value)),
        ({"type": "string", "minLength": 1, "nullable": True, "maxLength": 2}, lambda v: v is None or v),
        ({"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 4]}, {"type": "integer"}]}, lambda v: v in (2, 3)),
        ({"type": "object", "properties": {}, "additionalProperties": False}, lambda value: value == {}),
    ],
)
def test_what_is_said_follows_the_schema(engine: LlamaEngine, schema: dict[str, Any], follows: Any) -> None:
    """Each keyword is enforced, and something can be said at all."""
    said = answers(engine, schema)
    assert said
    assert all(follows(value) for value in said), said


def test_objects(engine: LlamaEngine) -> None:
    """Required properties are always there, optional ones now and then, others never; in order."""
    properties = {"a": {"type": "boolean"}, "b": {"enum": [1, 2]}, "c": SMALL, "d/~": {"type": "null"}}
    schema = {"type": "object", "properties": properties, "required": ["b"], "title": "noted"}
    said = answers(engine, schema, 20)
    assert said and all(
        "b" in value and list(value) == [key for key in properties if key in value] for value in said
    )
    assert len({tuple(value) for value in said}) > 2


@pytest.mark.parametrize("required", [[], ["a"], ["b"], ["a", "b"]])
def test_every_choice_of_required_properties(engine: LlamaEngine, required: list[str]) -> None:
    """Commas are right whatever is left out."""
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
        "required": required,
    }
    said = answers(engine, schema, 12)
    assert len(said) == 12
    assert all(set(required) <= set(value) for value in said)


def test_references(engine: LlamaEngine) -> None:
    """Definitions are used, and may contain themselves."""
    tree = {
        "type": "object",
        "properties": {"leaf": {"type": "boolean"}, "next": {"$ref": "#/$defs/tree"}},
        "required": ["leaf"],
    }
    said = answers(engine, {"$ref": "#/$defs/tree", "$defs": {"tree": tree}}, 12)
    assert said and all(isinstance(value["leaf"], bool) for value in said)
    assert answers(engine, {"type": "object", "properties": {"me": {"$ref": "#"}}}, 12)


def test_any_object(engine: LlamaEngine) -> None:
    """`json_object` is an object of any kind."""
    ends = tuple((byte, 4.0) for byte in b'"}]')  # a token is a byte in this model; so that strings end
    said = [say(engine, 900, grammar=ANY_OBJECT, seed=seed, logit_bias=ends) for seed in range(12)]
    whole = [json.loads(text) for text, reason in said if reason == "stop"]
    assert whole and all(isinstance(value, dict) for value in whole)
    assert all(text.startswith("{") for text, _ in said)


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        (7, "#"),
        (False, "#"),
        ({"type": "file"}, "#/type"),
        ({"type": []}, "#/type"),
        ({"not": {}}, "#/not"),
        ({"if": {}, "then": {}}, "#/"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "#/m"),
        ({"minimum": "3"}, "#/minimum"),
        ({"minimum": 10**80}, "#/minimum"),
        ({"type": "integer", "multipleOf": 3}, "#/multipleOf"),
        ({"type": "integer", "format": "date"}, "#/format"),
        ({"type": "string", "pattern": "^(?=a)$"}, "#/pattern"),
        ({"type": "string", "pattern": "^(a)\\1$"}, "#/pattern"),
        ({"type": "string", "pattern": "^ab$", "maxLength": 1}, "#/pattern"),
        ({"type": "string", "pattern": "^a*b*$", "maxLength": 1}, "#/pattern"),
        ({"type": "string", "pattern": "^a$", "format": "date"}, "#/format"),
        ({"type": "string", "format": "ipv6"}, "#/format"),
        ({"type": "string", "maxLength": -1}, "#/maxLength"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "#/maxLength"),
        ({"type": "string", "maxLength": 10**9}, "#/maxLength"),
        ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
        ({"type": "object", "properties": {"a/b": {"not": {}}}}, "#/properties/a~1b/not"),
        ({"additionalProperties": False, "required": ["x"]}, "#/required"),
        ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "#/required"),
        ({"patternProperties": {"^a": {}, "^b": {}}}, "#/patternProperties"),
        ({"type": "object", "minProperties": 2}, "#/minProperties"),
        ({"properties": {"a": {}, "b": {}}, "maxProperties": 1}, "#/maxProperties"),
        ({"prefixItems": [True], "minItems": 2}, "#/minItems"),
        ({"allOf": [{"enum": [1]}, {"enum": [2]}]}, "#"),
        ({"allOf": [{"enum": [True]}, {"const": 1}]}, "#"),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "#"),
        ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "#/pattern"),
        ({"anyOf": [False]}, "#/anyOf"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {}]}}}, "#/$defs/a/anyOf/0"),
        ({"anyOf": []}, "#/anyOf"),
        ({"anyOf": [{"const": 1}], "type": "string", "minLength": 1}, "#/"),
        ({"enum": []}, "#/enum"),
        ({"enum": [1, 2], "type": "string"}, "#/enum"),
        ({"const": None, "type": ["string", "number"]}, "#/const"),
        ({"const": "\ud800"}, "#/const"),
        ({"enum": [float("nan")]}, "#/enum"),
        ({"type": "object", "properties": {"\udfff": {}}}, "#/properties"),
        ({"type": "object", "properties": {"a": {}}, "required": [["a"]]}, "#/required"),
        ({"type": [["string"]]}, "#/type"),
        ({"$ref": "#/anyOf/" + "9" * 5000, "$defs": {}}, "#/$ref"),
        ({"$ref": "https://example.com/x"}, "#/$ref"),
        ({"$ref": "#/$defs/absent"}, "#/$ref"),
        ({"$ref": "#"}, "#/$ref"),
    ],
)
def test_what_a_grammar_cannot_say_is_refused(schema: object, place: str) -> None:
    """With its place in the schema; nothing is ignored."""
    with pytest.raises(InvalidRequest) as caught:
        grammar_of(schema)
    assert f"`{place}" in caught.value.message


@pytest.mark.parametrize("schema", [True, {}, {"description": "whatever"}, {"title": "t", "default": 1}])
def test_a_schema_that_says_nothing_allows_every_value(schema: object) -> None:
    """Notes are no demand."""
    assert grammar_of(schema) == grammar_of(True)


def test_hostile_schemas_end() -> None:
    """Depth and size have bounds."""
    deep: dict[str, Any] = {"const": 1}
    for _ in range(DEEPEST + 1):
        deep = {"type": "array", "items": deep}
    with pytest.raises(InvalidRequest, match="deeper"):
        grammar_of(deep)
    laughs: dict[str, Any] = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(25)}
    with pytest.raises(InvalidRequest, match="refers"):
        grammar_of({"$ref": "#/$defs/a0", "$defs": {**laughs, "a25": {"type": "object"}}})
    wide = {"type": "object", "properties": {str(number): {"const": 1} for number in range(2000)}}
    with pytest.raises(InvalidRequest, match="rules"):
        grammar_of(wide)
