"""The distribution API's small grammars: ranges, links, error answers, paths."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.oci.protocol import (
    ApiError,
    ByteRange,
    ErrorCode,
    RangeNotSatisfiable,
    blob_path,
    manifest_path,
    parse_chunk_range,
    parse_content_range,
    parse_errors,
    parse_next_link,
    parse_range,
    referrers_path,
    render_errors,
    tags_path,
    uploads_path,
)

HUGE = "9" * 5000


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-9", 0, 9),
        ("bytes=2-5", 2, 5),
        ("bytes=2-", 2, 9),
        ("bytes=2-999", 2, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-999", 0, 9),
        (" bytes=0-0 ", 0, 0),
        ("bytes= 0 - 0", 0, 0),
    ],
)
def test_ranges_are_clamped(header: str, first: int, last: int) -> None:
    """One range within ten bytes (RFC 9110, 14.1.2); the end is cut to the content."""
    found = parse_range(header, 10)
    assert found == ByteRange(first, last, 10)
    assert found.length == last - first + 1
    assert found.render() == f"bytes {first}-{last}/10"
    assert parse_content_range(found.render()) == (first, last, 10)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "lines=0-1",
        "bytes=0-1,3-4",
        "bytes 0-1",
        "bytes=0-1-2",
        f"bytes={HUGE}-",
        f"bytes=-{HUGE}",
        "bytes=\N{SUPERSCRIPT TWO}-",
        "bytes=\N{ARABIC-INDIC DIGIT ONE}-",
    ],
)
def test_other_ranges_are_ignored(header: str | None) -> None:
    """No range, several, another unit or nonsense: all of the content is sent."""
    assert parse_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "total"),
    [
        ("bytes=10-", 10),
        ("bytes=10-20", 10),
        ("bytes=5-2", 10),
        ("bytes=-0", 10),
        ("bytes=0-", 0),
        ("bytes=-1", 0),
    ],
)
def test_ranges_without_a_byte_are_refused(header: str, total: int) -> None:
    """A range that holds no byte of the content is answered with 416."""
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, total)


@given(st.text() | st.from_regex(r"bytes=\d*-\d*", fullmatch=True), st.integers(0, 100))
def test_any_range_lies_within(header: str, total: int) -> None:
    """Whatever is asked, the answer is none, 416, or a range inside the content."""
    try:
        found = parse_range(header, total)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found.first <= found.last < total


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 0-9/10", (0, 9, 10)),
        ("bytes 5-9/*", (5, 9, None)),
        (None, None),
        ("", None),
        ("bytes */10", None),
        ("bytes=0-9/10", None),
        ("0-9/10", None),
        ("bytes 0-9", None),
        (f"bytes 0-{HUGE}/*", None),
    ],
)
def test_content_ranges(header: str | None, expected: object) -> None:
    """What a 206 says it holds; anything malformed is None."""
    assert parse_content_range(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("0-1023", (0, 1023)),
        ("bytes=0-1023", (0, 1023)),
        ("bytes 0-1023/2048", (0, 1023)),
        ("5-6/*", (5, 6)),
        (None, None),
        ("0-", None),
        ("-5", None),
        ("a-b", None),
        (f"0-{HUGE}", None),
    ],
)
def test_chunk_ranges(header: str | None, expected: object) -> None:
    """The range of an upload, without a unit as the specification has it, or with one as some send it."""
    assert parse_chunk_range(header) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "/v2/a/tags/list?n=2&last=b"),
        ("<https://x.io/y>;rel=next", "https://x.io/y"),
        ('</prev>; rel="prev", </next>; rel="next"', "/next"),
        ('</next>; title="x"; rel="next"; x=y', "/next"),
        ('</prev>; rel="prev"', None),
        ("</next>", None),
        ('</next>; rel="nextish"', None),
        ("rel=next", None),
        ("", None),
        (None, None),
        ("<" * 5000, None),
        ("<>" + ";" * 5000, None),
    ],
)
def test_the_next_page(header: str | None, expected: str | None) -> None:
    """The link whose relation is `next` (RFC 8288)."""
    assert parse_next_link(header) == expected


def test_errors_read_as_they_are_written() -> None:
    """What our server says our client understands, unknown codes included."""
    errors = (ApiError(ErrorCode.BLOB_UNKNOWN, "no such blob"), ApiError("TEAPOT", "short and stout"))
    assert parse_errors(render_errors(*errors)) == errors
    assert json.loads(render_errors(errors[0])) == {
        "errors": [{"code": "BLOB_UNKNOWN", "message": "no such blob"}]
    }


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"errors": {}}', b'{"errors": [1]}', b"\xff", b"[" * 100_000],
)
def test_other_bodies_have_no_errors(body: bytes) -> None:
    """An answer of a proxy or a portal is no error document, and no reason to fail."""
    assert parse_errors(body) == ()


def test_missing_parts_of_an_error_are_empty() -> None:
    """An error without code or message still counts."""
    assert parse_errors(b'{"errors": [{"code": null}, {"message": ["x"]}]}') == (
        ApiError("", ""),
        ApiError("", "['x']"),
    )


@given(st.binary(max_size=100))
def test_any_body_can_be_looked_at(body: bytes) -> None:
    """Looking for errors never raises."""
    parse_errors(body)


def test_paths() -> None:
    """The end points of the specification ("Endpoints")."""
    assert manifest_path("a/b", "v1") == "/v2/a/b/manifests/v1"
    assert blob_path("a/b", "sha256:x") == "/v2/a/b/blobs/sha256:x"
    assert uploads_path("a/b") == "/v2/a/b/blobs/uploads/"
    assert tags_path("a/b") == "/v2/a/b/tags/list"
    assert referrers_path("a/b", "sha256:x") == "/v2/a/b/referrers/sha256:x"
