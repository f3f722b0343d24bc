"""Errors and events in OpenAI's form."""

import re
from typing import Final

import msgspec
from starlette.responses import Response

from qwenctl.api.exchange import blamed_field, json_response
from qwenctl.api.failures import http_status
from qwenctl.errors import InvalidRequest, NotFound, PromptTooLong, QwenctlError, ReferenceUnknown

# Clients compare these, and `previous_response_not_found`, with the API's own words.
_CODES: Final = {ReferenceUnknown.code: "model_not_found", PromptTooLong.code: "context_length_exceeded"}

DONE: Final = b"data: [DONE]\n\n"
"""The end of a stream, except of one of the responses API."""


class ErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong. `hint` is ours; clients of the API do not look for it, but people who print it do."""

    message: str
    type: str
    param: str | None
    code: str
    hint: str | msgspec.UnsetType = msgspec.UNSET


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error, and the last event of a stream that failed."""

    error: ErrorDetail


def error_body(error: QwenctlError) -> ErrorBody:
    """`error` in the API's form."""
    return ErrorBody(
        ErrorDetail(
            message=error.message,
            type="invalid_request_error" if http_status(error) < 500 else "server_error",
            param=_param(error),
            code=_code(error),
            hint=error.hint or msgspec.UNSET,
        )
    )


def refusal(error: QwenctlError) -> Response:
    """`error` as this API says it."""
    return json_response(error_body(error), http_status(error))


def failed(error: QwenctlError) -> bytes:
    """`error` as the last event of a stream."""
    return sent(error_body(error))


def sent(value: object) -> bytes:
    """`value` as a server-sent event."""
    # JSON text holds no line break, so one `data` line carries it. Source: HTML standard, 9.2.6.
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def _code(error: QwenctlError) -> str:
    if isinstance(error.__cause__, NotFound) and _param(error) == "previous_response_id":
        return "previous_response_not_found"
    return _CODES.get(error.code, error.code)


def _param(error: QwenctlError) -> str | None:
    """The field that is to blame: the decoder knows it, and our own refusals begin with it."""
    if isinstance(error, ReferenceUnknown):
        return "model"
    if isinstance(error, InvalidRequest) and (named := re.match(r"`([a-z][a-z0-9_.\[\]]*)`", error.message)):
        return named[1]
    return blamed_field(error)
