"""Logging in as a script does it, and what is found afterwards."""

import os
from pathlib import Path

from qwenctl.remote.credentials import Credential, load
from tests.cli.conftest import Command, Outcome

SECRET = "pa:ss"


def found(host: str) -> Credential | None:
    """What a pull would show to this host."""
    return load(os.environ, Path(os.environ["HOME"])).find(host)


def log_in(qwenctl: Command, host: str, *flags: str, password: str = SECRET) -> Outcome:
    """As a script does it."""
    return qwenctl("login", host, "--username", "me", "--password-stdin", *flags, piped=f"{password}\n")
