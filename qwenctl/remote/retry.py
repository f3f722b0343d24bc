"""What is worth another try, and when: exponential back-off with jitter, or what the server asks for.

Pure: the attempt, the outcome, the clock and the dice are arguments.

Source: RFC 9110 sections 10.2.3 (`Retry-After`, seconds or a date) and 15.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

RETRIED_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long. `longest_seconds` bounds one wait, the server's wish included."""

    attempts: int = 5
    first_seconds: float = 0.5
    longest_seconds: float = 30.0

    def delay(self, attempt: int, retry_after: str | None, dice: float, now: datetime) -> float | None:
        """Seconds to wait after the failed attempt number `attempt` (from 1); None to give up.

        `dice` is a random number from 0 to 1. A server that asks for more than `longest_seconds` is not
        waited for.
        """
        if attempt >= self.attempts:
            return None
        asked = parse_retry_after(retry_after, now)
        if asked is not None:
            return asked if asked <= self.longest_seconds else None
        ceiling = min(self.first_seconds * float(2 ** (attempt - 1)), self.longest_seconds)
        return ceiling * (0.5 + dice / 2)


def parse_retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for, 0 for a date in the past; None when absent or malformed."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, float((moment - now) / timedelta(seconds=1)))
