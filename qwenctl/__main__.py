"""`python -m qwenctl` and the installed command."""

import sys


def entry() -> None:
    """Run the command line and leave with its status: the one place that ends the process."""
    try:
        from qwenctl.cli import main

        status = main(sys.argv[1:])
    except KeyboardInterrupt:  # before or after the command: nothing was begun, or all is done
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    entry()
