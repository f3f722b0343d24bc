"""Errors, lines and moments in Ollama's form."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from starlette.responses import Response

from qwenctl.api.exchange import json_response
from qwenctl.api.failures import http_status
from qwenctl.errors import QwenctlError

LINES: Final = "application/x-ndjson"


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it."""
    return json_response(error_body(error), http_status(error))


def error_body(error: QwenctlError) -> dict[str, Any]:
    """The body of every error, and the last line of a stream that failed."""
    return {"error": f"{error.message}; {error.hint}" if error.hint else error.message}


async def lines(values: AsyncGenerator[Mapping[str, Any]]) -> AsyncGenerator[bytes]:
    """`values` as lines of JSON. Closes `values`."""
    async with aclosing(values):
        async for value in values:
            yield msgspec.json.encode(value) + b"\n"


def failed(error: QwenctlError) -> bytes:
    """`error` as the last line of a stream."""
    return msgspec.json.encode(error_body(error)) + b"\n"


def rfc3339(seconds: float) -> str:
    """A moment, counted from 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def now() -> str:
    """This moment."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
