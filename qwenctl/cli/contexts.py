"""Which runner commands speak to: this machine's own, or one elsewhere that the user has named.

`--context-url` goes before `$QWENCTL_RUNNER`, that before the context in use. All three take the name of a
context, the first two an address too, whose key is `$QWENCTL_API_KEY`. Contexts lie with the settings, in
`contexts.json`: a file for the user alone, because it holds the keys.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from qwenctl.cli.api_key import KEY_VARIABLE, checked_key
from qwenctl.cli.suggest import did_you_mean
from qwenctl.cli.wiring import directories
from qwenctl.errors import AccessDenied, Conflict, InvalidSettings, NotFound

if TYPE_CHECKING:
    from qwenctl.cli.output import Printer
    from qwenctl.runner.client import RunnerClient
    from qwenctl.settings import Settings

DEFAULT: Final = "default"
"""The name of this machine's own runner."""
RUNNER_VARIABLE: Final = "QWENCTL_RUNNER"


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """A runner elsewhere; its key is for its host alone. With `insecure` its certificate is not verified."""

    url: str
    api_key: str | None = None
    insecure: bool = False

    def __repr__(self) -> str:
        """Without the key."""
        return f"Context({self.url!r})"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the file: all contexts, and the one in use."""

    current: str = DEFAULT
    contexts: dict[str, Context] = {}

    def find(self, name: str) -> Context | None:
        """The context of this name, None for this machine's own runner. Raises: NotFound."""
        if name != DEFAULT and name not in self.contexts:
            near = did_you_mean(name, (DEFAULT, *self.contexts))
            raise NotFound(
                f"there is no context `{name}`", hint=near or "`qwenctl context list` has those there are"
            )
        return self.contexts.get(name)


class ContextsFile:
    """The contexts on disk. Any process may read and change them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path = directories(environ).config / "contexts.json"

    def read(self) -> Document:
        """What is there now. Raises: InvalidSettings when the file is damaged."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Document)
        except FileNotFoundError:
            return Document()
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise InvalidSettings(
                f"`{self.path}` cannot be used: {error}", hint="mend it, or remove it to begin anew"
            ) from error

    def change(self, edit: Callable[[Document], Document]) -> None:
        """Put what `edit` makes of it in its place. Raises: InvalidSettings; AccessDenied, DiskFull."""
        from qwenctl.store.disk import locked, translated

        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            from qwenctl.cli.output import reason_of

            reason = reason_of(error)
            raise AccessDenied(
                f"`{self.path.parent}` cannot be made: {reason}", hint="check its rights"
            ) from error
        with locked(self.path.with_name("contexts.lock")):
            text = msgspec.json.format(msgspec.json.encode(edit(self.read())), indent=2)
            draft = self.path.with_name(f".contexts.{os.getpid()}.draft")
            with translated(draft):
                draft.unlink(missing_ok=True)
                # Never there with wider rights: it holds keys.
                handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "wb") as file:
                    file.write(text + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self.path)


def chosen(context_url: str | None = None) -> tuple[str, Context | None]:
    """The name of the runner to speak to, and where it is: None for this machine's own.

    Raises: NotFound for a context that is not there; UsageError; InvalidSettings.
    """
    named = context_url or os.environ.get(RUNNER_VARIABLE)
    if named and "://" in named:
        from qwenctl.runner.transport import parse_runner_url

        key = os.environ.get(KEY_VARIABLE) or None
        return named, Context(parse_runner_url(named), key and checked_key(key, f"${KEY_VARIABLE}"))
    document = ContextsFile(os.environ).read()
    name = named or document.current
    return name, document.find(name)


def running(settings: "Settings", context_url: str | None = None) -> "RunnerClient | None":
    """The runner to speak to; None when it is this machine's own and does not run. Raises: as `chosen`."""
    from qwenctl.runner.client import RunnerClient

    context = chosen(context_url)[1]
    return RunnerClient.running(settings) if context is None else client_of(context, settings)


def client_of(context: Context, settings: "Settings") -> "RunnerClient":
    """A client of the runner elsewhere."""
    from qwenctl.runner.client import RunnerClient
    from qwenctl.runner.transport import UrlTransport

    way = UrlTransport(context.url, context.api_key, settings.ca_bundle, context.insecure)
    return RunnerClient(settings, way)


def announce(printer: "Printer", *, refused: bool) -> None:
    """Says that a command is about this machine when a runner elsewhere is in use.

    Raises: Conflict for one that is `refused`; as `chosen`.
    """
    name, context = chosen()
    if context is None:
        return
    command = printer.command
    if refused:
        raise Conflict(
            f"`{command}` works on this machine only, and `{name}` is in use",
            hint=f"run it there, or `{RUNNER_VARIABLE}={DEFAULT} qwenctl {command} …` for this machine",
        )
    printer.note(f"this is about this machine, not about `{name}`, which is in use")
