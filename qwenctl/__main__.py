"""`python -m qwenctl` and the installed command."""

import gc
import sys
from typing import Final

_ALLOCATIONS: Final = 100_000  # between two looks for garbage: a short command needs none, and saves 10 ms


def entry() -> None:
    """Run the command line and leave with its status: the one place that ends the process."""
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
    try:
        from qwenctl.cli import main

        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the command: nothing was begun, or all is done
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    entry()
