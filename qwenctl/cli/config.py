"""`qwenctl config`: the settings in force, where each comes from, and the file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, table
from qwenctl.errors import InvalidSettings, UsageError

if TYPE_CHECKING:
    from qwenctl.settings import Setting

app = typer.Typer(no_args_is_help=False, rich_markup_mode=None)

Key = Annotated[str, typer.Argument(metavar="KEY", help="A setting, such as `keep_alive`.")]


class SettingReport(msgspec.Struct, frozen=True):
    """One setting. `value` is the text that `config set` and the `variable` take.

    `origin` is `default`, `file` or `environment`.
    """

    key: str
    value: str
    origin: str
    variable: str


class SettingsReport(msgspec.Struct, frozen=True):
    """The data of `config list --json`."""

    path: str
    settings: list[SettingReport]


class SettingChange(msgspec.Struct, frozen=True):
    """The data of `config set --json`, `unset` and `edit`; not `in_force` where a variable goes before."""

    path: str
    key: str | None
    value: str | None
    changed: bool
    in_force: bool


class ConfigPath(msgspec.Struct, frozen=True):
    """The data of `config path --json`."""

    path: str
    exists: bool


@app.callback()
def root() -> None:
    """Show and change settings. A flag wins over the environment, the environment over the file."""


@app.command("list")
def list_(json: Json = False) -> None:
    """List the settings in force, and where each comes from.

    Example: qwenctl config list
    """
    settings = _explained()
    report = SettingsReport(str(_path()), [_report(setting) for setting in settings])
    rows = [(s.key, s.text or "-", s.variable if s.origin == "environment" else s.origin) for s in settings]
    Printer("config list", json).result(report, table(("KEY", "VALUE", "ORIGIN"), rows))


@app.command("get")
def get(key: Key, json: Json = False) -> None:
    """Print the value of a setting.

    Example: qwenctl config get keep_alive
    """
    name = _known(key)
    setting = next(setting for setting in _explained() if setting.key == name)
    Printer("config get", json).result(_report(setting), setting.text)


@app.command("set", context_settings={"ignore_unknown_options": True})  # `-1` is a value
def set_(
    key: Key,
    values: Annotated[
        list[str], typer.Argument(metavar="VALUE…", help="Its value; for a list, one or several.")
    ],
    json: Json = False,
) -> None:
    """Write a setting into the file. Comments, and everything else in it, stay.

    Examples: qwenctl config set keep_alive 30m · qwenctl config set insecure_registries localhost:5000
    """
    from qwenctl.cli.settings_file import opened, with_key
    from qwenctl.settings import canonical

    name = _known(key)
    value = canonical(name, (";" if name == "mirrors" else ",").join(values))
    with opened(_path()) as file:
        before = file[0]
        file[0] = with_key(before, name, value)
        changed = file[0] != before
    _say(Printer("config set", json), name, value, changed, f"{name} is {value or 'empty'}")


@app.command("unset")
def unset(key: Key, json: Json = False) -> None:
    """Remove a setting from the file.

    Example: qwenctl config unset keep_alive
    """
    from qwenctl.cli.settings_file import opened, without_key

    name = key.replace("-", "_")  # a key that we do not know is what one wants to remove
    with opened(_path()) as file:
        before = file[0]
        file[0] = without_key(before, name)
        changed = file[0] != before
    if not changed:
        _known(key)
    text = f"{name} is not set any more" if changed else f"{name} was not set"
    _say(Printer("config unset", json), name, None, changed, text)


@app.command("path")
def path(json: Json = False) -> None:
    """Print where the settings file is.

    Example: qwenctl config path
    """
    file = _path()
    Printer("config path", json).result(ConfigPath(str(file), file.exists()), str(file))


@app.command("edit")
def edit(json: Json = False) -> None:
    """Open the settings file in your editor. What cannot be used is not saved.

    $VISUAL names the editor, else $EDITOR. Example: EDITOR=nano qwenctl config edit
    """
    from qwenctl.cli.settings_file import opened
    from qwenctl.cli.wiring import directories
    from qwenctl.settings import explain

    with opened(_path()) as file:
        before = file[0]
        draft = _edited(before)
        text = draft.read_text(encoding="utf-8", errors="surrogateescape")
        try:
            explain({}, text, directories(os.environ))
        except InvalidSettings as error:
            raise InvalidSettings(error.message, hint=f"not saved; your text is in {draft}") from error
        file[0] = text
        draft.unlink()
    changed = text != before
    _say(Printer("config edit", json), None, None, changed, "saved" if changed else "nothing changed")


def _edited(text: str) -> Path:
    """A draft as the person left it. Raises: UsageError when the editor fails."""
    import shlex
    import subprocess
    import tempfile

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    handle, name = tempfile.mkstemp(prefix="qwenctl-", suffix=".yaml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        status = subprocess.run([*shlex.split(editor), name], check=False).returncode
    except (OSError, ValueError) as error:
        Path(name).unlink()
        raise UsageError(f"the editor `{editor}` cannot be started", hint="set $EDITOR") from error
    if status:
        raise UsageError(f"the editor ended with status {status}", hint=f"your text is in {name}")
    return Path(name)


def _say(printer: Printer, key: str | None, value: str | None, changed: bool, text: str) -> None:
    """The outcome, with a word when the environment says otherwise."""
    from qwenctl.settings import variable_of

    variable = variable_of(key) if key is not None and value is not None else ""
    in_force = not os.environ.get(variable) if variable else True
    printer.result(SettingChange(str(_path()), key, value, changed, in_force), text)
    if not in_force:
        printer.note(f"warning: ${variable} is set and goes before the file")


def _known(key: str) -> str:
    """The key as it is spelled. Raises: InvalidSettings with the near ones."""
    from qwenctl.cli.suggest import did_you_mean
    from qwenctl.settings import FILE_KEYS

    name = key.replace("-", "_")
    if name not in FILE_KEYS:
        near = did_you_mean(name, FILE_KEYS)
        raise InvalidSettings(f"unknown key `{key}`", hint=near or f"known keys: {', '.join(FILE_KEYS)}")
    return name


def _path() -> Path:
    from qwenctl.cli.wiring import settings_file

    return settings_file(os.environ)


def _explained() -> "tuple[Setting, ...]":
    from qwenctl.cli.wiring import directories, read_settings
    from qwenctl.settings import explain

    return explain(os.environ, read_settings(), directories(os.environ))


def _report(setting: "Setting") -> SettingReport:
    return SettingReport(setting.key, setting.text, setting.origin, setting.variable)
