"""Requests and answers of the fault proxy, as bytes on a line: lenient where a real server is not."""

import http.client
from dataclasses import dataclass, field, replace
from enum import StrEnum
from io import BufferedReader
from typing import Final
from urllib.parse import parse_qs, urlsplit

LONGEST_LINE: Final = 64 * 1024


class Kind(StrEnum):
    """What a path is for."""

    MANIFEST = "manifest"
    BLOB = "blob"
    UPLOAD = "upload"
    TOKEN = "token"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; header names in lower case, `path` with its query."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def kind(self) -> Kind:
        """What is asked for."""
        path = urlsplit(self.path).path
        if path == "/token":
            return Kind.TOKEN
        if "/manifests/" in path:
            return Kind.MANIFEST
        if "/blobs/uploads/" in path:
            return Kind.UPLOAD
        return Kind.BLOB if "/blobs/" in path else Kind.OTHER

    @property
    def range(self) -> str | None:
        """The `Range` header."""
        return self.headers.get("range")

    def query(self, name: str) -> str | None:
        """The first value of a query parameter."""
        return next(iter(parse_qs(urlsplit(self.path).query).get(name, ())), None)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response, whole; header names in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def head(self) -> bytes:
        """Status line and headers as sent."""
        reason = http.client.responses.get(self.status, "Odd")
        lines = [
            f"HTTP/1.1 {self.status} {reason}",
            *(f"{key}: {text}" for key, text in self.headers.items()),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def having(self, **headers: str | None) -> "Answer":
        """The same with other headers (`content_length="5"`); None takes one away."""
        changed = {key.replace("_", "-"): text for key, text in headers.items()}
        merged = {**self.headers, **changed}
        return replace(self, headers={key: text for key, text in merged.items() if text is not None})

    def holding(self, body: bytes) -> "Answer":
        """The same with another body and its length."""
        return replace(self.having(content_length=str(len(body))), body=body)


def read_head(reader: BufferedReader) -> Request | None:
    """The next request; None at the end of the connection."""
    words = reader.readline(LONGEST_LINE).decode("latin-1").split()
    if len(words) != 3:
        return None
    headers: dict[str, str] = {}
    while (text := reader.readline(LONGEST_LINE).decode("latin-1").strip()) != "":
        key, _, value = text.partition(":")
        headers[key.lower()] = value.strip()
    return Request(words[0], words[1], headers)


def read_body(reader: BufferedReader, request: Request) -> bytes:
    """The body of `request`, by its length or in chunks."""
    if "chunked" not in request.headers.get("transfer-encoding", ""):
        return reader.read(int(request.headers.get("content-length", "0")))
    pieces = bytearray()
    while length := int(reader.readline(LONGEST_LINE), 16):
        pieces += reader.read(length)
        reader.readline(LONGEST_LINE)
    reader.readline(LONGEST_LINE)
    return bytes(pieces)
