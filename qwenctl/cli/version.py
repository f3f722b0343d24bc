"""`qwenctl version`: what is installed."""

import platform

import msgspec

from qwenctl import __version__
from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, fields


class Versions(msgspec.Struct, frozen=True):
    """The data of `version --json`."""

    qwenctl: str
    llama_cpp_python: str
    python: str
    platform: str


def version(json: Json = False) -> None:
    """Show the versions of qwenctl, llama-cpp-python and Python.

    Example: qwenctl version
    """
    from importlib.metadata import version as installed

    versions = Versions(
        __version__,
        installed("llama-cpp-python"),
        platform.python_version(),
        f"{platform.system().lower()}/{platform.machine()}",
    )
    text = fields(
        [
            ("qwenctl", versions.qwenctl),
            ("llama-cpp-python", versions.llama_cpp_python),
            ("Python", versions.python),
            ("Platform", versions.platform),
        ]
    )
    Printer("version", json).result(versions, text)
