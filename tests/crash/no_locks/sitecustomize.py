"""On this `PYTHONPATH` locks are had by everybody at once, as on file systems where `flock` does nothing."""

import fcntl


def _granted(handle: object, operation: int, /) -> None:
    """Nothing, with success."""


fcntl.flock = _granted
