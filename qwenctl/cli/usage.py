"""Typer's complaints about a command line, in our words. Loaded once something is wrong.

Typer vendors click and exports almost none of its errors: they are known by the names of their classes.
"""

import re
from typing import Any, Final

from qwenctl.cli.suggest import did_you_mean, near, question
from qwenctl.errors import UsageError

_KINDS: Final = {"int": "a whole number", "float": "a number"}
"""What typer calls the type of a value, and what we call it."""
_ELSEWHERE: Final = {
    **dict.fromkeys(("remove", "delete", "rmi"), "rm"),
    **dict.fromkeys(("download", "install", "get"), "pull"),
    **dict.fromkeys(("chat", "generate", "ask"), "run"),
    **dict.fromkeys(("create", "import"), "package"),
    **dict.fromkeys(("info", "card"), "show"),
    **dict.fromkeys(("cp", "copy"), "tag"),
    **dict.fromkeys(("gc", "clean"), "prune"),
    **dict.fromkeys(("images", "models"), "list"),
}
"""What other programs call our commands."""


def usage_failure(error: BaseException, command: str) -> UsageError:
    """The complaint about `command` as ours; the hint is what was probably meant, else the command's help."""
    context: Any = getattr(error, "ctx", None)
    told = str(getattr(error, "message", None) or error)
    message, hint = _told(type(error).__name__, error, told, context)
    path = getattr(context, "command_path", f"qwenctl {command}")  # a missing value is told without a context
    return UsageError(message, hint=hint or f"see `{path} --help`")


def _told(kind: str, error: Any, told: str, context: Any) -> tuple[str, str | None]:
    """Message and hint; of what is not known here, typer's own words."""
    match kind:
        case "NoSuchOption":
            return f"there is no option `{error.option_name}`", _near_option(error.option_name, context)
        case "MissingParameter":
            return f"`{_name(error.param, context)}` is missing", None
        case "BadParameter" if error.param is not None:
            return _bad_value(_name(error.param, context), told)
        case "BadOptionUsage":
            takes = "takes no value" if "does not take" in told else "needs a value"
            return f"`{error.option_name}` {takes}", None
    if unknown := re.match(r"No such command '(.*?)'\.", told):
        known = context.command.list_commands(context) if context else ()
        ours = _ELSEWHERE.get(unknown[1]) if context and context.parent is None else None
        return f"there is no command `{unknown[1]}`", question([ours] if ours else near(unknown[1], known))
    if extra := re.match(r"Got unexpected extra argument\(?s?\)? \((.*)\)", told):
        return f"`{extra[1]}` is too much", None
    return told[:1].lower() + told[1:].strip().rstrip("."), None


def _name(param: Any, context: Any) -> str:
    """`MODEL` of an argument, the longest name of an option."""
    if param.param_type_name == "option":
        return str(max(param.opts, key=len))
    return str(param.metavar or param.make_metavar(context)).strip("[]")


def _bad_value(name: str, told: str) -> tuple[str, str | None]:
    """Which value an option cannot have, and what it could have."""
    if found := re.match(r"(['\"])(.*)\1 is not a valid (\w+)", told):
        return f"`{name}` cannot be `{found[2]}`", _KINDS.get(found[3]) and f"give {_KINDS[found[3]]}"
    if found := re.match(r"(\S+) is not in the range (?:(\S+?)<=?)?x(?:[<>]=?(\S+?))?\.?$", told):
        number, low, high = found.groups()
        if low is None and ">" in told:
            low, high = high, None
        span = " to ".join(filter(None, (low and f"from {low}", high)))
        return f"`{name}` cannot be `{number}`", f"give a number {span}"
    return f"`{name}`: {told[:1].lower()}{told[1:].strip().rstrip('.')}", None


def _near_option(option: str, context: Any) -> str | None:
    """The long options of this command that are near."""
    params = getattr(getattr(context, "command", None), "params", ())
    known = [name for param in params if not getattr(param, "hidden", False) for name in param.opts]
    return did_you_mean(option, [name for name in known if name[:2] == "--"])
