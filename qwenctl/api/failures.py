"""Which HTTP status an error of ours has. Every door shares the table; each renders its own body."""

from typing import Final

from qwenctl import errors
from qwenctl.errors import QwenctlError

INTERNAL_ERROR: Final = 500
CLIENT_CLOSED_REQUEST: Final = 499
"""Never sent: the connection is gone; it names the outcome in a log. Source: nginx."""
RETRY_AFTER_SECONDS: Final = 5
"""When to come back to a model whose queue is full: a queue of short answers has moved on by then."""

_STATUS: Final[dict[type[QwenctlError], int]] = {
    errors.Conflict: 409,
    errors.AccessDenied: 500,  # of the runner's files, not of the client's credentials
    errors.ForeignOrigin: 403,
    errors.InvalidApiKey: 401,
    errors.UsageError: 400,
    errors.NotFound: 404,
    errors.RateLimited: 429,
    errors.RemoteError: 502,
    errors.DoesNotFit: 507,  # Docker Model Runner's status for it
    errors.InvalidRequest: 400,
    errors.BodyTooLarge: 413,
    errors.PromptTooLong: 400,
    errors.Overloaded: 503,
    errors.TimedOut: 504,
    errors.WorkerDied: 503,  # the next request loads the model again
    errors.RunnerUnavailable: 503,
}


def http_headers(error: QwenctlError) -> dict[str, str]:
    """The headers that go with an error of ours, whatever the door."""
    return {"retry-after": str(RETRY_AFTER_SECONDS)} if isinstance(error, errors.Overloaded) else {}


def http_status(error: QwenctlError) -> int:
    """The status of the nearest class in the table, from the error's own class upwards; else 500."""
    known = (_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS)
    return next(known, INTERNAL_ERROR)
