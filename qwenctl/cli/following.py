"""Commands that go on until Ctrl-C, as `tail -f` does: that is how they end, and no failure to talk about."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from qwenctl.cli.output import Printer
from qwenctl.errors import Interrupted


@contextmanager
def until_interrupted(printer: Printer) -> Iterator[None]:
    """Ctrl-C ends the command with its status and no word; with `--json` the envelope tells it."""
    try:
        yield
    except KeyboardInterrupt:
        if printer.as_json:
            raise
        sys.exit(Interrupted.exit_code)
