"""The command line: `main(argv)` runs one command and returns the exit status.

Only this package reads the environment, writes to stdout and stderr and decides on a status. Nothing but
the import stands here: the commands are submodules, and one of them is called `list`.
"""

from qwenctl.cli.command_line import main

__all__ = ["main"]
