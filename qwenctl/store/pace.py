"""How many connections one blob is worth, found out while it comes. Pure: the clock is an argument.

More than one pays where a single one is held back: by decryption on one core, by the window of a long fat
link. It costs where the hash or the disk is the limit, so each further connection is tried and must earn
its place.
"""

from collections.abc import Callable
from typing import Final

MOST: Final = 4
"""Connections of one blob at most: more gain nothing, and annoy registries."""

_WORTH: Final = 1.2  # times as fast as before, or the new connection goes
_HASH_SHARE: Final = 0.5  # of the time; a hash that is this busy leaves nothing to gain
_LEAST_BYTES: Final = 64 << 20
_LEAST_LEFT_SECONDS: Final = 5.0
_LEAST_SECONDS: Final = 0.5
_ENOUGH_BYTES: Final = 16 << 20
_LONGEST_SECONDS: Final = 3.0


class Pace:
    """Advice on connections, from measurements that it is fed with. One thread at a time."""

    def __init__(self, now: float) -> None:
        self.wanted = 1
        self._settled = False
        self._before: float | None = None  # bytes a second without the connection that is on trial
        self._begin(now, 0, 0.0, skip=False)

    def advise(
        self,
        now: float,
        moved_bytes: int,
        missing_bytes: int,
        hash_seconds: float,
        borrow: Callable[[], bool],
    ) -> int:
        """How many connections there should be after `moved_bytes`, hashed in `hash_seconds` of a processor.

        `now` in seconds of a clock that only grows. `borrow` gets one more connection, and is called when it
        would be tried. The number goes up by one at a time, and once down.
        """
        if self._settled or not self._measured(now, moved_bytes):
            return self.wanted
        if self._skip:  # the first moments of a new connection say nothing
            self._begin(now, moved_bytes, hash_seconds, skip=False)
            return self.wanted
        elapsed = now - self._since
        rate = (moved_bytes - self._moved) / elapsed
        if self._before is not None and rate < self._before * _WORTH:
            self._settled = True
            self.wanted -= 1
        elif self.wanted == MOST:
            self._settled = True
        elif self._promises(rate, missing_bytes, (hash_seconds - self._hashed) / elapsed) and borrow():
            self._before = rate
            self.wanted += 1
            self._begin(now, moved_bytes, hash_seconds, skip=True)
        else:
            self._before = None
            self._begin(now, moved_bytes, hash_seconds, skip=False)
        return self.wanted

    def settle(self, lanes: int) -> None:
        """No more trials: a connection was refused, or broke, and `lanes` are left."""
        self._settled = True
        self.wanted = max(1, lanes)

    def _promises(self, rate: float, missing_bytes: int, hash_share: float) -> bool:
        """Whether a trial can pay: it costs a second or so, and gains nothing where the hash is the limit."""
        lasts = missing_bytes >= max(_LEAST_BYTES, rate * _LEAST_LEFT_SECONDS)
        return lasts and hash_share < _HASH_SHARE

    def _begin(self, now: float, moved_bytes: int, hash_seconds: float, *, skip: bool) -> None:
        self._since, self._moved, self._hashed, self._skip = now, moved_bytes, hash_seconds, skip

    def _measured(self, now: float, moved_bytes: int) -> bool:
        elapsed, moved = now - self._since, moved_bytes - self._moved
        if self._skip:
            return elapsed >= _LEAST_SECONDS / 2
        return elapsed >= _LEAST_SECONDS and (moved >= _ENOUGH_BYTES or elapsed >= _LONGEST_SECONDS)
