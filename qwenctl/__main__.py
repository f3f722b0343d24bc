"""`python -m qwenctl` and the installed command."""

import sys

from qwenctl.cli import main


def entry() -> None:
    """Run the command line and leave with its status: the one place that ends the process."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
