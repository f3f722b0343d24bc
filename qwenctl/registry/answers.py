"""Answers that every end-point shares: refusals with the specification's codes, lists in pages."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from qwenctl.errors import InvalidDigest
from qwenctl.oci.digest import Digest
from qwenctl.oci.protocol import ApiError, ErrorCode, render_errors

_JSON: Final = "application/json"
_COUNT: Final = re.compile("[0-9]{1,18}")


class Refusal(Exception):
    """An answer that says no: status, code, message, further headers."""

    def __init__(
        self, status: int, code: ErrorCode, message: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer, with the JSON body that the specification asks for."""
        body = render_errors(ApiError(self.code, self.message))
        return Response(body, self.status, self.headers, _JSON)


def parse_digest(text: str) -> Digest:
    """A digest from a path or a query. Raises: Refusal with 400 DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidDigest as error:
        raise Refusal(400, ErrorCode.DIGEST_INVALID, error.message) from error


def json_response(document: object, headers: Mapping[str, str] | None = None, kind: str = _JSON) -> Response:
    """A JSON document with status 200."""
    return Response(json.dumps(document).encode(), 200, dict(headers or {}), kind)


def page(request: Request, items: Sequence[str], key: str, rest: Mapping[str, str]) -> Response:
    """A page of sorted `items` by the query's `n` and `last`, with a link to the next one.

    Source: distribution-spec v1.1.1, "Listing Tags".
    """
    last, limit = request.query_params.get("last", ""), request.query_params.get("n")
    shown = [item for item in items if item > last]
    headers = {}
    if limit is not None:
        if not _COUNT.fullmatch(limit):
            raise Refusal(400, ErrorCode.UNSUPPORTED, f"`n={limit[:50]}` is not a number that we take")
        count = int(limit)
        if 0 < count < len(shown):
            next_page = f"{request.scope['path']}?n={count}&last={quote(shown[count - 1])}"
            headers["Link"] = f'<{next_page}>; rel="next"'
        shown = shown[:count]
    return json_response({**rest, key: shown}, headers)
