"""The distribution API's vocabulary, used by our client and our server alike: paths, ranges, errors.

Source: OCI distribution-spec v1.1.1 ("Endpoints", "Error codes", "Pushing a blob in chunks", "Content
discovery"); RFC 9110 section 14 for `Range` and `Content-Range`; RFC 8288 for `Link`.
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

CONTENT_DIGEST: Final = "Docker-Content-Digest"
UPLOAD_ID: Final = "Docker-Upload-UUID"
CHUNK_MIN_LENGTH: Final = "OCI-Chunk-Min-Length"
SUBJECT: Final = "OCI-Subject"
FILTERS_APPLIED: Final = "OCI-Filters-Applied"

_NUMBER: Final = "[0-9]{1,19}"  # any int64; `int` refuses what a hostile peer may send beyond that


class ErrorCode(StrEnum):
    """The codes of the specification, one for one."""

    BLOB_UNKNOWN = "BLOB_UNKNOWN"
    BLOB_UPLOAD_INVALID = "BLOB_UPLOAD_INVALID"
    BLOB_UPLOAD_UNKNOWN = "BLOB_UPLOAD_UNKNOWN"
    DIGEST_INVALID = "DIGEST_INVALID"
    MANIFEST_BLOB_UNKNOWN = "MANIFEST_BLOB_UNKNOWN"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_INVALID = "NAME_INVALID"
    NAME_UNKNOWN = "NAME_UNKNOWN"
    SIZE_INVALID = "SIZE_INVALID"
    UNAUTHORIZED = "UNAUTHORIZED"
    DENIED = "DENIED"
    UNSUPPORTED = "UNSUPPORTED"
    TOOMANYREQUESTS = "TOOMANYREQUESTS"


@dataclass(frozen=True, slots=True)
class ApiError:
    """One entry of an error answer; `code` is kept as sent, also when it is not in the specification."""

    code: str
    message: str


def render_errors(*errors: ApiError) -> bytes:
    """The JSON body of an error answer."""
    return json.dumps({"errors": [{"code": str(e.code), "message": e.message} for e in errors]}).encode()


def parse_errors(body: bytes) -> tuple[ApiError, ...]:
    """The errors in an answer's body; none when it is not such a document. Never raises."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return ()
    return tuple(
        ApiError(str(item.get("code") or ""), str(item.get("message") or ""))
        for item in errors
        if isinstance(item, dict)
    )


def manifest_path(repository: str, version: str) -> str:
    """The path of a manifest; `version` is a tag or a digest."""
    return f"/v2/{repository}/manifests/{version}"


def blob_path(repository: str, digest: str) -> str:
    """The path of a blob."""
    return f"/v2/{repository}/blobs/{digest}"


def uploads_path(repository: str) -> str:
    """The path that starts an upload."""
    return f"/v2/{repository}/blobs/uploads/"


def tags_path(repository: str) -> str:
    """The path of the list of tags."""
    return f"/v2/{repository}/tags/list"


def referrers_path(repository: str, digest: str) -> str:
    """The path of the list of manifests whose subject is `digest`."""
    return f"/v2/{repository}/referrers/{digest}"


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both included, of content of `total` bytes."""

    first: int
    last: int
    total: int

    @property
    def length(self) -> int:
        """The number of bytes in the range."""
        return self.last - self.first + 1

    def render(self) -> str:
        """The value of `Content-Range` in a 206 answer."""
        return f"bytes {self.first}-{self.last}/{self.total}"


class RangeNotSatisfiable(ValueError):
    """A well-formed range of which the content has no byte: answered with 416."""


def parse_range(header: str | None, total: int) -> ByteRange | None:
    """The one range that a `Range` header asks for, clamped to the content; None to send all of it.

    A header that is absent, of another unit, malformed or of several ranges is ignored, as RFC 9110
    allows. Raises: RangeNotSatisfiable.
    """
    match = re.fullmatch(rf"bytes=({_NUMBER})?-({_NUMBER})?", (header or "").strip().replace(" ", ""))
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        suffix = int(match[2])
        if suffix == 0 or total == 0:
            raise RangeNotSatisfiable(header)
        return ByteRange(max(0, total - suffix), total - 1, total)
    first = int(match[1])
    last = min(int(match[2]), total - 1) if match[2] else total - 1
    if first > last:
        raise RangeNotSatisfiable(header)
    return ByteRange(first, last, total)


def parse_content_range(header: str | None) -> tuple[int, int, int | None] | None:
    """First byte, last byte and total (None for `*`) of a 206 answer; None when malformed."""
    match = re.fullmatch(rf"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER}|\*)", (header or "").strip())
    if match is None:
        return None
    return int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])


def parse_chunk_range(header: str | None) -> tuple[int, int] | None:
    """First and last byte of an upload's chunk or session (`0-1023`); None when malformed."""
    match = re.fullmatch(
        rf"(?:bytes[= ])?({_NUMBER})-({_NUMBER})(?:/(?:{_NUMBER}|\*))?", (header or "").strip()
    )
    return (int(match[1]), int(match[2])) if match else None


def parse_next_link(header: str | None) -> str | None:
    """The target of the `rel="next"` link, as sent (relative or absolute); None without one."""
    for match in re.finditer(r"<([^>]*)>((?:\s*;\s*[^,;]+)*)", header or ""):
        if re.search(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', match[2]):
            return match[1]
    return None
