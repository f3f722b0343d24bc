"""JSON Schema as a grammar (GBNF): what a model may say so that the answer follows the schema. Pure.

Objects have their properties in the order of the schema, each optional one present or not. Beside named
properties the standard allows others unless it says otherwise; they come, last, only where
`additionalProperties` is there and allows them. In the same way a list has all of its `prefixItems` unless
`minItems` says that fewer will do, and more only where `items` says of what kind. What a grammar of this kind
cannot say is refused with its place in the schema, never ignored.

Source: JSON Schema 2020-12, with the spellings of draft 4 and OpenAPI 3.0 that models' tools still come with;
the white space between tokens as in llama.cpp's `common/json-schema-to-grammar.cpp`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from qwenctl.errors import InvalidRequest
from qwenctl.runtime.gbnf import Grammar, literal
from qwenctl.runtime.schema_merge import (
    COMBINATORS,
    DEEPEST,
    Schema,
    alternatives,
    asks,
    refused,
    schemas_of,
)
from qwenctl.runtime.schema_numbers import Interval, decimals, integers
from qwenctl.runtime.schema_patterns import PatternRefused
from qwenctl.runtime.schema_strings import FORMATS, other_name, pattern_rule
from qwenctl.runtime.schema_words import (
    counts,
    interval_of,
    json_text,
    pointer_step,
    required_names,
    types_of,
    value_of,
)

_RANGE: Final = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "format"}
)
_OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset(
        {"properties", "required", "additionalProperties", "patternProperties", "propertyNames"}
        | {"minProperties", "maxProperties"}
    ),
    "array": frozenset({"items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "number": _RANGE,
    "integer": _RANGE,
    "boolean": frozenset(),
    "null": frozenset(),
}
MOST_LOOKUPS: Final = 10_000
_SEPARATOR: Final = ' "," space '
_NUMBER_FORMATS: Final = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float",
    "double",
)


def grammar_of(schema: object) -> str:
    """The grammar of all JSON texts that follow `schema`, a decoded JSON Schema.

    Raises: InvalidRequest, naming the place, for what is no schema, or cannot be said by a grammar.
    """
    grammar = Grammar()
    return grammar.text(SchemaRules(grammar, schema).rule(schema, "#"))


class SchemaRules:
    """The rules of one schema, and of what it refers to, in a grammar that may hold others too."""

    def __init__(self, grammar: Grammar, schema: object) -> None:
        self._grammar = grammar
        self._schema = schema
        self._references: dict[str, str] = {}
        self._layers: dict[str, str] = {}
        self._open: set[str] = set()
        self._lookups = 0

    def rule(self, schema: object, place: str, depth: int = 0) -> str:
        """An expression for a schema: the name of a rule, or a sequence. Raises: see `grammar_of`."""
        if depth > DEEPEST:
            raise InvalidRequest(f"the schema is nested deeper than {DEEPEST} levels at `{place[:300]}`")
        if schema is True or (isinstance(schema, dict) and not asks(schema)):
            return self._grammar.primitive("value")
        if not isinstance(schema, dict):
            raise refused(place, "no schema")
        words = asks(schema)
        if words == {"$ref"}:
            return self._reference(schema["$ref"], place, depth)
        if len(words) == 1 and words <= {"anyOf", "oneOf", "allOf"}:
            (word,) = words
            items = schemas_of(schema, word, place)
            if word != "allOf" or len(items) == 1:
                parts = [
                    self.rule(item, f"{place}/{word}/{number}", depth + 1)
                    for number, item in enumerate(items)
                    if item is not False
                ]
                return self._grammar.new(" | ".join(parts)) if parts else self._nothing(f"{place}/{word}")
        if words & COMBINATORS or schema.get("nullable") is True:
            layers = alternatives(schema, place, self._find, depth)
            parts = [self._shared(layer, place, depth) for layer in layers]
            return self._grammar.new(" | ".join(parts)) if parts else self._nothing(place)
        return self._layer(schema, place, depth)

    def _nothing(self, place: str) -> str:
        raise refused(place, "nothing can follow it")

    def _shared(self, schema: Schema, place: str, depth: int) -> str:
        """The rule of a schema that was put together; one that holds itself comes to the same rule again."""
        try:
            key = json.dumps(schema, sort_keys=True)
        except RecursionError:
            raise InvalidRequest(
                f"the schema is nested deeper than {DEEPEST} levels at `{place[:300]}`"
            ) from None
        if key not in self._layers:
            name = self._layers[key] = self._grammar.reserve()
            self._grammar.put(name, self._layer(schema, place, depth + 1))
        return self._layers[key]

    def _layer(self, schema: Schema, place: str, depth: int) -> str:
        """A schema without combinators."""
        if not asks(schema):
            return self._grammar.primitive("value")
        for word in ("const", "enum"):
            if word in schema:
                _allow(schema, {word, "type", "nullable"}, place)
                values = [schema["const"]] if word == "const" else schema["enum"]
                return self._enumeration(values, schema.get("type"), f"{place}/{word}")
        kind = schema.get("type")
        if isinstance(kind, list):
            if not kind or not all(isinstance(item, str) for item in kind):
                raise refused(f"{place}/type", "no list of types")
            parts = [self._layer({**_part(schema, item), "type": item}, place, depth) for item in kind]
            return self._grammar.new(" | ".join(parts))
        if kind is None:
            kind = next((name for name, words in _OF_TYPE.items() if words & schema.keys()), None)
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            raise refused(f"{place}/{min(asks(schema) - {'nullable'}, default='type')}", "not supported")
        _allow(schema, {"type", "nullable", *_OF_TYPE[kind]}, place)
        match kind:
            case "object" | "array":
                outside, self._open = self._open, set()  # a bracket stands before what is inside
                rule = (self._object if kind == "object" else self._array)(schema, place, depth)
                self._open = outside
                return rule
            case "string":
                return self._string(schema, place)
            case "number" | "integer":
                return self._number(schema, kind, place)
        return self._grammar.primitive(kind)

    def _object(self, schema: Schema, place: str, depth: int) -> str:
        properties, required = (
            dict(value_of(schema, "properties", dict, place)),
            required_names(schema, place),
        )
        more = schema.get(
            "additionalProperties", not (properties or required or "patternProperties" in schema)
        )
        for name in required:
            if properties.get(name, more if "additionalProperties" in schema else True) is False:
                raise refused(f"{place}/required", f"`{name[:100]}` is not among the properties")
            properties.setdefault(name, more or True)
        if not asks(schema).difference({"type", "required"}) and not properties:
            return self._grammar.primitive("object")
        members = []
        for name, item in properties.items():
            if item is not False:
                value = self.rule(item, f"{place}/properties/{pointer_step(name)}", depth + 1)
                key = literal(json_text(name, f"{place}/properties"))
                members.append((self._grammar.new(f'{key} space ":" space {value}'), name in required))
        rest = self._rest(schema, more, list(properties), place, depth)
        body = self._counted(schema, members, rest, place)
        return self._grammar.new(f'"{{" space {body} "}}" space')

    def _rest(self, schema: Schema, more: object, names: list[str], place: str, depth: int) -> str | None:
        """The members beyond the named ones; None when there are none."""
        patterns = value_of(schema, "patternProperties", dict, place)
        keys, value = None, more
        if patterns:
            if names or len(patterns) > 1 or more is not False or "propertyNames" in schema:
                raise refused(f"{place}/patternProperties", "only supported alone, with one pattern")
            ((pattern, value),) = patterns.items()
            keys = self._string({"pattern": pattern}, f"{place}/patternProperties/{pointer_step(pattern)}")
        elif "propertyNames" in schema:
            if names:
                raise refused(f"{place}/propertyNames", "not supported beside named properties")
            keys = self._names_rule(schema["propertyNames"], place, depth)
        if value is False:
            return None
        if keys is None:
            keys = f"{self._other_name(names, place)} space" if names else self._grammar.primitive("string")
        rule = self.rule(value, f"{place}/additionalProperties", depth + 1)
        return self._grammar.new(f'{keys} ":" space {rule}')

    def _names_rule(self, names: object, place: str, depth: int) -> str:
        place = f"{place}/propertyNames"
        schema = {"allOf": [{"type": "string"}, names]}
        return self.rule(schema, place, depth + 1)

    def _other_name(self, names: list[str], place: str) -> str:
        try:
            return other_name(self._grammar, names)
        except PatternRefused as error:
            raise refused(f"{place}/additionalProperties", str(error)) from error

    def _counted(
        self, schema: Schema, members: Sequence[tuple[str, bool]], rest: str | None, place: str
    ) -> str:
        """All members, so many as the schema asks for."""
        least, most = counts(schema, "minProperties", "maxProperties", place)
        needed = sum(required for _, required in members)
        if not members and rest is not None:
            if least > 1:
                raise refused(f"{place}/minProperties", "the same name might come twice")
            return self._list_of(rest, least, most)
        if least > needed:
            raise refused(f"{place}/minProperties", "more than are required")
        if most is not None and (rest is not None or most < len(members)):
            raise refused(f"{place}/maxProperties", "fewer than there may be")
        return self._members(members, rest)

    def _members(self, members: Sequence[tuple[str, bool]], rest: str | None) -> str:
        """All members in order; a comma stands before each that is not the first of those present.

        From behind: `after` is what may follow once something stands before, `alone` when nothing does.
        """
        after = f'("," space {rest})*' if rest else ""
        alone = f"({rest} {after})?" if rest else ""
        for member, needed in reversed(members):
            follow = self._grammar.new(after) if after else ""
            if needed:
                after, alone = f'"," space {member} {follow}', f"{member} {follow}"
            else:
                other = self._grammar.new(alone) if alone else '""'
                alone = f"({member} {follow} | {other})"
                after = f'("," space {member} {follow} | {follow or chr(34) * 2})'
        return alone

    def _array(self, schema: Schema, place: str, depth: int) -> str:
        if schema.get("uniqueItems", False) is not False:
            raise refused(f"{place}/uniqueItems", "not supported")
        least, most = counts(schema, "minItems", "maxItems", place)
        more = schema.get("items", True)
        if isinstance(more, list):  # draft 4
            first, word, more = more, "items", schema.get("additionalItems", True)
        else:
            first, word = value_of(schema, "prefixItems", list, place), "prefixItems"
        first = first if most is None else first[:most]
        parts = [self.rule(item, f"{place}/{word}/{number}", depth + 1) for number, item in enumerate(first)]
        open_end = not first or ("items" in schema and word == "prefixItems") or "additionalItems" in schema
        needed = least if "minItems" in schema else len(parts)
        rest = ""
        if open_end and more is not False and (most is None or most > len(parts)):
            item = self.rule(more, f"{place}/items", depth + 1)
            bounds = max(0, needed - len(parts)), None if most is None else most - len(parts)
            if not parts:
                return self._grammar.new(f'"[" space {self._list_of(item, *bounds)} "]" space')
            rest = self._grammar.repeat(self._grammar.new(f'"," space {item}'), *bounds)
        elif needed > len(parts):
            raise refused(f"{place}/minItems", "more than there may be")
        for number in range(len(parts) - 1, -1, -1):
            item = f"{',' if number else ''}"
            text = f"{literal(item) + ' space ' if item else ''}{parts[number]} {rest}"
            rest = self._grammar.new(text) + ("" if number < needed else "?")
        return self._grammar.new(f'"[" space {rest} "]" space')

    def _list_of(self, item: str, least: int, most: int | None) -> str:
        """So many items with commas between."""
        if most == 0:
            return ""
        following = self._grammar.new(f'"," space {item}')
        more = self._grammar.repeat(following, max(least - 1, 0), None if most is None else most - 1)
        return f"({item} {more}){'' if least else '?'}"

    def _string(self, schema: Schema, place: str) -> str:
        least, most = counts(schema, "minLength", "maxLength", place)
        word = "pattern" if "pattern" in schema else "format"
        pattern = schema.get(word)
        if word in schema:
            if not isinstance(pattern, str):
                raise refused(f"{place}/{word}", "not a text")
            if word == "pattern" and "format" in schema:
                raise refused(f"{place}/format", "not supported beside a pattern")
            if word == "format" and pattern not in FORMATS:
                raise refused(f"{place}/format", "not supported")
            try:
                text = FORMATS[pattern] if word == "format" else pattern
                return self._grammar.new(f"{pattern_rule(self._grammar, text, least, most)} space")
            except PatternRefused as error:
                raise refused(f"{place}/{word}", str(error)) from error
        if (least, most) == (0, None):
            return self._grammar.primitive("string")
        characters = self._grammar.repeat(self._grammar.primitive("char"), least, most)
        return self._grammar.new(rf'"\"" {characters} "\"" space')

    def _number(self, schema: Schema, kind: str, place: str) -> str:
        if "multipleOf" in schema and (kind, schema["multipleOf"]) != ("integer", 1):
            raise refused(f"{place}/multipleOf", "not supported")
        if schema.get("format", "int32") not in _NUMBER_FORMATS:
            raise refused(f"{place}/format", "not supported")
        interval = interval_of(schema, place)
        if interval == Interval():
            return self._grammar.primitive(kind)
        try:
            numbers = integers(interval) if kind == "integer" else decimals(interval)
        except ValueError as error:
            raise refused(f"{place}/{min(_RANGE & schema.keys())}", str(error)) from error
        if numbers is None:
            raise refused(f"{place}/{max(_RANGE & schema.keys())}", "there is no such number")
        return self._grammar.new(f"{numbers} space")

    def _enumeration(self, values: object, kind: object, place: str) -> str:
        """One of some values, of those that are of the type that stands beside them."""
        if not isinstance(values, list) or not values:
            raise refused(place, "not a list of values")
        kinds = kind if isinstance(kind, list) else [kind]
        fitting = [
            value for value in values if kind is None or types_of(value) & {str(name) for name in kinds}
        ]
        if not fitting:
            raise refused(place, "no value is of the type beside it")
        return self._grammar.new(" | ".join(_constant(value, place) for value in fitting))

    def _reference(self, target: object, place: str, depth: int) -> str:
        """The rule of another place in the schema; it may be one that is just being written."""
        found = self._find(target, place)
        target = str(target)
        if target in self._open:
            raise refused(f"{place}/$ref", "it refers to itself without anything between")
        if target not in self._references:
            name = self._references[target] = self._grammar.reserve()
            self._open.add(target)
            self._grammar.put(name, self.rule(found, target, depth + 1))
            self._open.discard(target)
        return self._references[target]

    def _find(self, target: object, place: str) -> object:
        """What a JSON pointer leads to. Source: RFC 6901."""
        self._lookups += 1
        if self._lookups > MOST_LOOKUPS:
            raise InvalidRequest(f"the schema refers more than {MOST_LOOKUPS} times to its parts")
        if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
            raise refused(f"{place}/$ref", "only places in the same schema can be referred to")
        found = self._schema
        for step in target.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and len(key) < 9 and int(key) < len(found):
                found = found[int(key)]
            else:
                raise refused(f"{place}/$ref", f"there is no `{target[:100]}`")
        return found


def _constant(value: object, place: str) -> str:
    """An expression for one value, however it is spaced."""
    match value:
        case dict():
            members = [
                f'{literal(json_text(key, place))} space ":" space {_constant(item, place)}'
                for key, item in value.items()
            ]
            return f'"{{" space {_SEPARATOR.join(members)} "}}" space'
        case list():
            return f'"[" space {_SEPARATOR.join(_constant(item, place) for item in value)} "]" space'
    return f"{literal(json_text(value, place))} space"


def _part(schema: Schema, kind: object) -> Schema:
    """Of a schema for several types what concerns one of them."""
    others = frozenset().union(*(words for name, words in _OF_TYPE.items() if name != kind))
    strange = others - _OF_TYPE.get(str(kind), frozenset())
    return {key: value for key, value in schema.items() if key not in strange}


def _allow(schema: Schema, known: set[str], place: str) -> None:
    if strange := sorted(asks(schema) - known):
        raise refused(f"{place}/{pointer_step(strange[0])}", "not supported here")


ANY_OBJECT: Final = grammar_of({"type": "object"})
"""The grammar of any JSON object."""
