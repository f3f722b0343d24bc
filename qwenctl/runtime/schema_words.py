"""What stands under the keywords of a JSON Schema, checked; and the small texts of JSON. Pure."""

import json
import math
from decimal import Decimal
from typing import Any

from qwenctl.runtime.gbnf import MOST_REPEATS
from qwenctl.runtime.schema_merge import Schema, refused
from qwenctl.runtime.schema_numbers import Interval


def value_of(schema: Schema, word: str, kind: type, place: str) -> Any:
    """What stands under a keyword, or the empty value of `kind`. Raises: InvalidRequest for another type."""
    value = schema.get(word, kind())
    if not isinstance(value, kind):
        raise refused(f"{place}/{word}", "not of the right type")
    return value


def required_names(schema: Schema, place: str) -> list[str]:
    """The names under `required`. Raises: InvalidRequest when they are none."""
    names: list[str] = value_of(schema, "required", list, place)
    if not all(isinstance(name, str) for name in names):
        raise refused(f"{place}/required", "not a list of names")
    return names


def counts(schema: Schema, low: str, high: str, place: str) -> tuple[int, int | None]:
    """The bounds of a count; the upper one None where there is none. Raises: InvalidRequest for nonsense."""
    least, most = schema.get(low, 0), schema.get(high)
    for word, value in ((low, least), (high, most)):
        if value is None and word == high:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_REPEATS:
            raise refused(f"{place}/{word}", f"not a number from 0 to {MOST_REPEATS}")
    if most is not None and most < least:
        raise refused(f"{place}/{high}", f"less than `{low}`")
    return least, most


def interval_of(schema: Schema, place: str) -> Interval:
    """Between which numbers. Raises: InvalidRequest for bounds that are none."""
    low, low_open = _bound(schema, "minimum", "exclusiveMinimum", place)
    high, high_open = _bound(schema, "maximum", "exclusiveMaximum", place)
    return Interval(low, high, low_open, high_open)


def _bound(schema: Schema, word: str, exclusive: str, place: str) -> tuple[Decimal | None, bool]:
    """A bound, and whether it is left out itself; the tighter one of two."""
    bound, outer = _decimal(schema, word, place), schema.get(exclusive)
    if isinstance(outer, bool):  # draft 4
        return bound, outer and bound is not None
    other = _decimal(schema, exclusive, place)
    if other is None or bound is None:
        return (bound, False) if other is None else (other, True)
    tighter = other >= bound if word == "minimum" else other <= bound
    return (other, True) if tighter else (bound, False)


def _decimal(schema: Schema, word: str, place: str) -> Decimal | None:
    value = schema.get(word)
    if word not in schema:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise refused(f"{place}/{word}", "not a number")
    return Decimal(str(value))


def types_of(value: object) -> set[str]:
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


def json_text(value: object, place: str) -> str:
    """The text of a value. Raises: InvalidRequest for what JSON, or UTF-8, has no text for."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        raise refused(place, "not a value of JSON") from error
    return text


def pointer_step(key: str) -> str:
    """A key in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")
