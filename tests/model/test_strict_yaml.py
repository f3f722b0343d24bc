"""YAML for model cards: plain values, each key once."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.errors import Malformed
from qwenctl.model.strict_yaml import NESTING_LIMIT, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1", {"a": 1}),
        ("- a\n- {b: [c, 2.5, true]}", ["a", {"b": ["c", 2.5, True]}]),
        ("a: >-\n  long\n  text\n", {"a": "long text"}),
        ("[" * NESTING_LIMIT + "]" * NESTING_LIMIT, None),
    ],
)
def test_plain_documents(text: str, value: object) -> None:
    """Mappings, lists, text and numbers, as deep as is sensible."""
    found = parse_yaml(text.encode())
    assert value is None or found == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3 has the key `a` a second time"),
        ("x: [{a: 1}, {b: 1, b: 2}]", "the key `b` a second time"),
        ("a: &b 1", "line 1 has an anchor"),
        ("a: *b", "anchor"),
        ("? [a]\n: 1", "a key that is not plain"),
        ("[" * 17 + "]" * 17, "nested more than 16"),
        ("[" * 1_000_000, "nested more than 16|maximum nesting depth"),  # libyaml's own bound may come first
        ("a: [", "not YAML"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("a: !!python/object:os.system {}", "not YAML"),
        ("a: 2025-02-30", "not YAML"),
        ("a: \x07", "not YAML"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    """What could lose a value, grow, or run something is refused in one line."""
    with pytest.raises(Malformed, match=words) as caught:
        parse_yaml(text.encode())
    assert caught.value.message.isprintable()


@given(st.binary(max_size=200) | st.text(alphabet="a:- [{]}&*!|>?'\"#\n1.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No bytes do anything but become a value or be malformed."""
    with suppress(Malformed):
        parse_yaml(raw)
