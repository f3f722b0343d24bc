"""JSON Schema as a grammar (GBNF): what a model may say so that the answer follows the schema. Pure.

Objects have their properties in the order of the schema, each optional one present or not; what else an
object may hold comes behind. What a grammar of this kind cannot say is refused with its place in the
schema, never ignored.

Source: JSON Schema 2020-12; GBNF as in llama.cpp `grammars/README.md`, with the same primitive rules and
bounds as its `common/json-schema-to-grammar.cpp`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qwenctl.errors import InvalidRequest

MOST_RULES: Final = 2000
DEEPEST: Final = 64
MOST_REPEATS: Final = 1000
"""llama.cpp refuses more than 2,000."""

_SPACE: Final = 'space ::= | " " | "\\n"{1,2} [ \\t]{0,20}'
_PRIMITIVES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "boolean": ('("true" | "false") space', ()),
    "null": ('"null" space', ()),
    "integral": ("[0] | [1-9] [0-9]{0,15}", ()),
    "integer": ('("-"? integral) space', ("integral",)),
    "number": ('("-"? integral) ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})? space', ("integral",)),
    "char": (r'[^"\\\x7F\x00-\x1F] | [\\] (["\\bfnrt] | "u" [0-9a-fA-F]{4})', ()),
    "string": (r'"\"" char* "\"" space', ("char",)),
    "value": (
        "object | array | string | number | boolean | null",
        ("object", "array", "string", "number", "boolean", "null"),
    ),
    "object": (
        '"{" space ( string ":" space value ("," space string ":" space value)* )? "}" space',
        ("string", "value"),
    ),
    "array": ('"[" space ( value ("," space value)* )? "]" space', ("value",)),
    "date": ('[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | [1-2] [0-9] | "3" [0-1])', ()),
    "time": (
        '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{3})?'
        ' ("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])',
        (),
    ),
    "date-time": ('date "T" time', ("date", "time")),
    "uuid": (
        '[0-9a-fA-F]{8} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{12}',
        (),
    ),
}
_FORMATS: Final = ("date", "time", "date-time", "uuid")
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "$schema", "$id", "$comment", "$defs", "definitions"}
    | {"deprecated", "readOnly", "writeOnly", "$anchor"}
)
_OF_TYPE: Final[Mapping[str, frozenset[str]]] = {
    "object": frozenset({"properties", "required", "additionalProperties"}),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "format"}),
    "integer": frozenset(),
    "number": frozenset(),
    "boolean": frozenset(),
    "null": frozenset(),
}


def grammar_of(schema: object, before: str = "", after: str = "") -> str:
    """The grammar of all JSON texts that follow `schema`, a decoded JSON Schema, between two fixed texts.

    Raises: InvalidRequest, naming the place, for what is no schema, or cannot be said by a grammar.
    """
    writer = _Writer(schema)
    root = writer.rule(schema, "#", 0)
    fixed = [_literal(text) if text else "" for text in (before, after)]
    return writer.text(f"{fixed[0]} {root} {fixed[1]}".strip())


class _Writer:
    """One grammar under construction."""

    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._open: set[str] = set()

    def text(self, root: str) -> str:
        """The whole grammar."""
        lines = [f"root ::= {root}", _SPACE, *(f"{name} ::= {body}" for name, body in self._rules.items())]
        return "\n".join(lines) + "\n"

    def rule(self, schema: object, place: str, depth: int) -> str:
        """An expression for a schema: the name of a rule, or a sequence in parentheses."""
        if depth > DEEPEST:
            raise InvalidRequest(f"the schema is nested deeper than {DEEPEST} levels at `{place}`")
        if schema is True or (isinstance(schema, dict) and not schema.keys() - _NOTES):
            return self._primitive("value")
        if not isinstance(schema, dict):
            raise _refused(place, "no schema")
        if "$ref" in schema:
            _allow(schema, {"$ref"}, place)
            return self._reference(schema["$ref"], place, depth)
        if "const" in schema:
            _allow(schema, {"const", "type"}, place)
            return self._enumeration([schema["const"]], schema.get("type"), f"{place}/const")
        if "enum" in schema:
            _allow(schema, {"enum", "type"}, place)
            return self._enumeration(schema["enum"], schema.get("type"), f"{place}/enum")
        for word in ("anyOf", "oneOf"):  # a grammar cannot see to it that but one is followed
            if word in schema:
                _allow(schema, {word}, place)
                return self._alternatives(schema[word], f"{place}/{word}", depth)
        return self._typed(schema, place, depth)

    def _typed(self, schema: dict[str, Any], place: str, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            if not kind or not all(isinstance(item, str) for item in kind):
                raise _refused(f"{place}/type", "no list of types")
            return self._new(
                " | ".join(self._typed({**_part(schema, item), "type": item}, place, depth) for item in kind)
            )
        if kind is None:
            kind = next((name for name, words in _OF_TYPE.items() if words & schema.keys()), None)
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            unknown = next(iter(schema.keys() - _NOTES), "type")
            raise _refused(f"{place}/{unknown}", "not supported")
        _allow(schema, {"type", *_OF_TYPE[kind]}, place)
        match kind:
            case "object":
                return self._object(schema, place, depth)
            case "array":
                return self._array(schema, place, depth)
            case "string":
                return self._string(schema, place)
        return self._primitive(kind)

    def _object(self, schema: dict[str, Any], place: str, depth: int) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            raise _refused(place, "not an object's schema")
        if missing := [name for name in required if not isinstance(name, str) or name not in properties]:
            raise _refused(f"{place}/required", f"`{missing[0]}` is not among the properties")
        # Beside named properties others are allowed by the standard, but none need be there: none come.
        more = False if properties else schema.get("additionalProperties", True)
        if not properties and more is True:
            return self._primitive("object")
        members = []
        for name, item in properties.items():
            value = self.rule(item, f"{place}/properties/{_escaped(name)}", depth + 1)
            key = _literal(_json(name, f"{place}/properties"))
            members.append((self._new(f'{key} space ":" space {value}'), name in required))
        rest = self._rest(more, place, depth)
        body = self._members(members, rest)
        return self._new(f'"{{" space {body} "}}" space')

    def _rest(self, more: object, place: str, depth: int) -> str | None:
        """The members beyond the named ones; None when there are none."""
        if more is False:
            return None
        value = self.rule(more, f"{place}/additionalProperties", depth + 1)
        return self._new(f'{self._primitive("string")} ":" space {value}')

    def _members(self, members: Sequence[tuple[str, bool]], rest: str | None) -> str:
        """All members in order; a comma stands before each that is not the first of those present.

        From behind: `after` is what may follow once something stands before, `alone` when nothing does.
        """
        after = f'("," space {rest})*' if rest else ""
        alone = f"({rest} {after})?" if rest else ""
        for member, needed in reversed(members):
            follow = self._new(after) if after else ""
            if needed:
                after, alone = f'"," space {member} {follow}', f"{member} {follow}"
            else:
                other = self._new(alone) if alone else '""'
                alone = f"({member} {follow} | {other})"
                after = f'("," space {member} {follow} | {follow or chr(34) * 2})'
        return alone

    def _array(self, schema: dict[str, Any], place: str, depth: int) -> str:
        least, most = _bounds(schema, "minItems", "maxItems", place)
        first = schema.get("prefixItems", [])
        if not isinstance(first, list):
            raise _refused(f"{place}/prefixItems", "not a list")
        if first:
            if schema.get("items", False) is not False or (least, most) not in (
                (0, None),
                (len(first), len(first)),
            ):
                raise _refused(f"{place}/prefixItems", "only supported for a list of exactly these items")
            parts = [self.rule(item, f"{place}/prefixItems/{n}", depth + 1) for n, item in enumerate(first)]
            return self._new('"[" space ' + ' "," space '.join(parts) + ' "]" space')
        item = self.rule(schema.get("items", True), f"{place}/items", depth + 1)
        if most == 0:
            return self._new('"[" space "]" space')
        upper = "" if most is None else most - 1
        some = f'{item} ("," space {item}){{{max(least - 1, 0)},{upper}}}'
        return self._new(f'"[" space ({some}){"" if least else "?"} "]" space')

    def _string(self, schema: dict[str, Any], place: str) -> str:
        if "format" in schema:
            _allow(schema, {"type", "format"}, place)
            if schema["format"] not in _FORMATS:
                raise _refused(f"{place}/format", "not supported")
            return self._new(rf'"\"" {self._primitive(schema["format"])} "\"" space')
        least, most = _bounds(schema, "minLength", "maxLength", place)
        if (least, most) == (0, None):
            return self._primitive("string")
        char = self._primitive("char")
        return self._new(rf'"\"" {char}{{{least},{"" if most is None else most}}} "\"" space')

    def _enumeration(self, values: object, kind: object, place: str) -> str:
        """One of some values, of those that are of the type that stands beside them."""
        if not isinstance(values, list) or not values:
            raise _refused(place, "not a list of values")
        kinds = kind if isinstance(kind, list) else [kind]
        fitting = [value for value in values if kind is None or _types(value) & {str(name) for name in kinds}]
        if not fitting:
            raise _refused(place, "no value is of the type beside it")
        return self._new(f"({' | '.join(_literal(_json(value, place)) for value in fitting)}) space")

    def _alternatives(self, schemas: object, place: str, depth: int) -> str:
        if not isinstance(schemas, list) or not schemas:
            raise _refused(place, "not a list of schemas")
        parts = [self.rule(item, f"{place}/{number}", depth + 1) for number, item in enumerate(schemas)]
        return self._new(" | ".join(parts))

    def _reference(self, target: object, place: str, depth: int) -> str:
        """The rule of another place in the schema; it may be one that is just being written."""
        if not isinstance(target, str) or not (target == "#" or target.startswith("#/")):
            raise _refused(f"{place}/$ref", "only places in the same schema can be referred to")
        if target in self._references:
            if target in self._open:
                raise _refused(f"{place}/$ref", "it refers to itself without anything between")
            return self._references[target]
        name = self._references[target] = f"ref-{len(self._references)}"
        found = _find(self._schema, target, place)
        if isinstance(found, dict) and "$ref" in found:
            self._open.add(target)
        body = self.rule(found, target, depth + 1)
        self._open.discard(target)
        self._put(name, body)
        return name

    def _primitive(self, name: str) -> str:
        if name not in self._rules:
            body, needs = _PRIMITIVES[name]
            self._put(name, body)
            for other in needs:
                self._primitive(other)
        return name

    def _new(self, body: str) -> str:
        name = f"r{len(self._rules)}"
        self._put(name, body)
        return name

    def _put(self, name: str, body: str) -> None:
        if len(self._rules) >= MOST_RULES:
            raise InvalidRequest(f"the schema needs more than {MOST_RULES} rules")
        self._rules[name] = body


def _part(schema: dict[str, Any], kind: object) -> dict[str, Any]:
    """Of a schema for several types what concerns one of them."""
    others = frozenset().union(*(words for name, words in _OF_TYPE.items() if name != kind))
    return {
        key: value
        for key, value in schema.items()
        if key not in others - _OF_TYPE.get(str(kind), frozenset())
    }


def _allow(schema: dict[str, Any], known: set[str], place: str) -> None:
    if strange := sorted(schema.keys() - known - _NOTES):
        raise _refused(f"{place}/{_escaped(strange[0])}", "not supported here")


def _bounds(schema: dict[str, Any], low: str, high: str, place: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for word, value in ((low, least), (high, most)):
        if value is None and word == high:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REPEATS:
            raise _refused(f"{place}/{word}", f"not a number from 0 to {MOST_REPEATS}")
    if most is not None and most < least:
        raise _refused(f"{place}/{high}", f"less than `{low}`")
    return least, most


def _find(schema: object, target: str, place: str) -> object:
    """What a JSON pointer leads to. Source: RFC 6901."""
    found = schema
    for step in target.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and len(key) < 9 and int(key) < len(found):
            found = found[int(key)]
        else:
            raise _refused(f"{place}/$ref", f"there is no `{target[:100]}`")
    return found


def _types(value: object) -> set[str]:
    """The names of the types that a value is of."""
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"integer", "number"} if value.is_integer() else {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
    return {"object"}


def _json(value: object, place: str) -> str:
    """The text of a value. Raises: InvalidRequest for what JSON, or UTF-8, has no text for."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        raise _refused(place, "not a value of JSON") from error
    return text


def _literal(text: str) -> str:
    """A text as a literal of the grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _escaped(key: str) -> str:
    """A key in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _refused(place: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"the schema at `{place[:300]}`: {why}", hint="a grammar cannot enforce it")


ANY_OBJECT: Final = grammar_of({"type": "object"})
"""The grammar of any JSON object."""
