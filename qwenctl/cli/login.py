"""`qwenctl login`: prove who one is to a registry, and keep it where Docker keeps it."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from qwenctl.cli.options import InsecureRegistry, Json
from qwenctl.cli.output import Printer
from qwenctl.errors import Unauthorized, UsageError

if TYPE_CHECKING:
    from qwenctl.flows.login import Login
    from qwenctl.remote.credentials import Credential
    from qwenctl.settings import Settings

Registry = Annotated[
    str, typer.Argument(metavar="[REGISTRY]", help="HOST[:PORT], by default Docker Hub.", show_default=False)
]

_PASSWORD_LIMIT: Final = 65_536  # bytes; the longest in use are keys of service accounts, of a few KB


class LoginReport(msgspec.Struct, frozen=True):
    """The data of `login --json`. `checked`: the registry asked for the credential and took it.

    `saved` is false where a stored credential was good still. `credential_helper` is the program that keeps
    the secret; null: it is in `file`, unencrypted.
    """

    registry: str
    user: str
    checked: bool
    saved: bool
    file: str
    credential_helper: str | None


def login(
    registry: Registry = "docker.io",
    username: Annotated[str, typer.Option("--username", "-u", help="The account.", show_default=False)] = "",
    password: Annotated[
        str | None, typer.Option("--password", "-p", help="Its password or token; seen by others: avoid.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password or token from stdin.")
    ] = False,
    insecure_registry: InsecureRegistry = None,
    json: Json = False,
) -> None:
    """Log in to a registry. The registry is asked first; Docker and podman find what is saved.

    Example: qwenctl login ghcr.io -u me --password-stdin < token
    """
    from qwenctl.cli.wiring import load_settings
    from qwenctl.flows.login import login as log_in
    from qwenctl.remote.credentials import docker_config_path
    from qwenctl.remote.docker_config import DockerConfig
    from qwenctl.remote.login import parse_registry

    printer = Printer("login", json)
    host, settings = parse_registry(registry), load_settings(insecure_registry)
    if password is not None:
        printer.note("warning: --password is seen by others on this machine; --password-stdin is not")
    if password_stdin:
        password = _password_from_stdin(username, password)
    user = username
    if not username and password is None:
        stored, user = _use_stored(host, settings, printer)
        if stored:
            return
    credential = _credential(user, username, password, printer)
    done = log_in(host, credential, settings, DockerConfig(docker_config_path(os.environ, Path.home())))
    _report(done, printer)


def _password_from_stdin(username: str, password: str | None) -> str:
    """All of stdin without the line break at its end, as Docker reads it. Raises: UsageError."""
    from qwenctl.cli.terminal import ask_secret

    if password is not None:
        raise UsageError("there are two passwords", hint="leave out --password")
    if not username:
        raise UsageError("`--password-stdin` needs a user", hint="give it with --username")
    if sys.stdin is None:
        raise UsageError("there is no stdin to read the password from")
    if sys.stdin.isatty():
        return ask_secret("Password: ")
    raw = sys.stdin.buffer.read(_PASSWORD_LIMIT + 1)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UsageError("the password on stdin is not text in UTF-8") from None  # the cause carries it
    if len(raw) > _PASSWORD_LIMIT:
        raise UsageError("what is on stdin is too long for a password")
    return text.removesuffix("\n").removesuffix("\r")


def _use_stored(host: str, settings: "Settings", printer: Printer) -> tuple[bool, str]:
    """Whether what is stored is good still, which is told then; and its user, to be offered again if not."""
    from qwenctl.remote.credentials import load
    from qwenctl.remote.login import prove

    located = load(os.environ, Path.home()).locate(host)
    if located is None:
        return False, ""
    user = located.credential.user
    try:
        checked = prove(host, located.credential, settings)
    except Unauthorized as error:
        printer.note(f"the stored credentials for {host} are not taken any more: {error.message}")
        return False, user
    report = LoginReport(host, user, checked, False, str(located.path), located.helper)
    printer.result(report, f"logged in to {host}{_as(user)}, with what is stored")
    printer.note(f"for another account: `qwenctl login {host} --username USER`")
    return True, ""


def _credential(offered: str, username: str, password: str | None, printer: Printer) -> "Credential":
    """What was given, completed at the terminal. Raises: UsageError where nobody can be asked."""
    from qwenctl.cli.terminal import ask, ask_secret
    from qwenctl.remote.credentials import Credential

    if not username or password is None:
        if printer.as_json or sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
            missing = "password" if username else "user"
            raise UsageError(
                f"there is no {missing}, and no terminal to ask on",
                hint="give --username, and the password with --password-stdin",
            )
        if not username:
            username = ask(f"Username ({offered}): " if offered else "Username: ") or offered
        if username and password is None:
            password = ask_secret("Password: ")
    if not username or not password:
        raise UsageError("the password is empty" if username else "the user is empty")
    if ":" in username or not username.isprintable():
        raise UsageError("a user name has no colon and no control characters")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise UsageError("the password is not text in UTF-8") from None  # the cause carries it
    return Credential(username, password)


def _report(done: "Login", printer: Printer) -> None:
    from qwenctl.remote.credentials import load

    report = LoginReport(done.registry, done.user, done.checked, True, str(done.path), done.helper)
    if done.helper is None:
        printer.note(f"warning: the password is stored unencrypted in {done.path}")
        printer.note("hint: a credential helper keeps it in the system's keychain: name one in `credsStore`")
    if not done.checked:
        printer.note(f"warning: {done.registry} lets anybody in: user and password were not checked")
    located = (
        load(os.environ, Path.home()).locate(done.registry) if "REGISTRY_AUTH_FILE" in os.environ else None
    )
    if located and located.path != done.path:
        printer.note(f"warning: {located.path} has credentials for {done.registry} too, and goes first")
    printer.result(report, f"logged in to {done.registry}{_as(done.user)}")


def _as(user: str) -> str:
    return f" as {user}" if user else ""
