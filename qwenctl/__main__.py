"""`python -m qwenctl` and the installed command."""

import gc
import os
import sys
from typing import Final

_ALLOCATIONS: Final = 100_000  # between two looks for garbage: a short command needs none, and saves 10 ms


def entry() -> None:
    """Run the command line and leave with its status: the one place that ends the process."""
    _open_missing_streams()
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
    try:
        from qwenctl.cli import main

        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the command: nothing was begun, or all is done
        status = 130
    gc.freeze()  # what is there goes with the process: looking through it on the way out takes 20 ms
    sys.exit(status)


def _open_missing_streams() -> None:
    """Nothing in place of a standard stream that was closed (`>&-`), so that no file takes its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


if __name__ == "__main__":
    entry()
