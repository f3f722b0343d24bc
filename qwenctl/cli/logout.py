"""`qwenctl logout`: forget the credentials for a registry."""

import os
from pathlib import Path

import msgspec

from qwenctl.cli.login import Registry
from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer


class LogoutReport(msgspec.Struct, frozen=True):
    """The data of `logout --json`. `still_in` is a file of another program that has a credential too."""

    registry: str
    was_logged_in: bool
    still_in: str | None


def logout(registry: Registry = "docker.io", json: Json = False) -> None:
    """Log out of a registry: drop what Docker's file and its helper have for it.

    Example: qwenctl logout ghcr.io
    """
    from qwenctl.flows.login import logout as log_out
    from qwenctl.remote.credentials import docker_config_path, load
    from qwenctl.remote.docker_config import DockerConfig
    from qwenctl.remote.login import parse_registry

    printer, host = Printer("logout", json), parse_registry(registry)
    was = log_out(host, DockerConfig(docker_config_path(os.environ, Path.home())))
    located = load(os.environ, Path.home()).locate(host)
    left = str(located.path) if located else None
    if left:
        printer.note(f"warning: {left} has credentials for {host} too; they are left there, and used")
    text = f"logged out of {host}" if was else f"not logged in to {host}"
    printer.result(LogoutReport(host, was, left), text)
