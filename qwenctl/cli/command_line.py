"""`main`: one command, one status. Errors are printed in one place, here."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from qwenctl.errors import Interrupted, QwenctlError, UsageError

if TYPE_CHECKING:
    from qwenctl.cli.output import Printer


def main(argv: Sequence[str]) -> int:
    """Run the command in `argv` (without the program's name); the exit status."""
    if argv and argv[0] == "complete-words":  # at each Tab: loading typer alone would take 50 ms
        from qwenctl.cli.names import complete_words

        return complete_words(argv[1:])

    import typer

    from qwenctl.cli.app import app
    from qwenctl.cli.output import Printer, silence_stdout

    # Typer vendors click and exports only this leaf of its usage errors.
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])
    printer = Printer(command_name(argv), wants_json(argv))
    try:
        if not {"-h", "--help"} & set(argv):
            _announce(printer)
        status = app(args=list(argv), prog_name="qwenctl", standalone_mode=False)
        if status == Interrupted.exit_code:  # typer keeps a Ctrl-C to itself and gives its status
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except QwenctlError as error:
        printer.failure(error)
        return error.exit_code
    except usage_error as error:
        failure = _usage_failure(error)
        printer.failure(failure)
        return failure.exit_code
    except (KeyboardInterrupt, typer.Abort):
        printer.failure(Interrupted("interrupted"))
        return Interrupted.exit_code
    except BrokenPipeError:
        silence_stdout()
        return 0
    except Exception as error:  # noqa: BLE001 - the last line: a bug is reported as one, never as a traceback
        return report_bug(error, printer)


def _announce(printer: "Printer") -> None:
    """See `contexts.announce`; its module is for commands that a context matters to."""
    from qwenctl.cli.app import ABOUT_THIS_MACHINE

    if printer.command in ABOUT_THIS_MACHINE:
        from qwenctl.cli.contexts import announce

        announce(printer, refused=ABOUT_THIS_MACHINE[printer.command] == "refused")


def wants_json(argv: Sequence[str]) -> bool:
    """Whether `--json` is among the options, known before the arguments are parsed."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in options


def command_name(argv: Sequence[str]) -> str:
    """The command in `argv` by its own name, `registry serve` in two words; empty without one."""
    from qwenctl.cli.app import ALIASES, GROUPS

    words = [word for word in argv if not word.startswith("-")]
    if not words:
        return ""
    return " ".join(words[:2]) if words[0] in GROUPS else ALIASES.get(words[0], words[0])


def _usage_failure(error: BaseException) -> UsageError:
    """Typer's complaint as ours; the hint is what was probably meant, else the command's help."""
    from qwenctl.cli.suggest import did_you_mean

    context: Any = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "qwenctl")
    told = getattr(error, "message", None) or getattr(error, "format_message", lambda: error)()
    if option := getattr(error, "option_name", None):
        message, near = _option_failure(str(option), str(told), context)
    elif missing := re.match(r"No such command '(.*?)'\.", str(told)):
        known = context.command.list_commands(context) if context else ()
        message, near = f"there is no command `{missing[1]}`", did_you_mean(missing[1], known)
    else:
        render = getattr(error, "format_message", None)
        message, near = str(render() if callable(render) else error).strip().rstrip("."), None
    return UsageError(message[:1].lower() + message[1:], hint=near or f"see `{path} --help`")


def _option_failure(option: str, told: str, context: Any) -> tuple[str, str | None]:
    """The message about an option, and the near ones of this command where there is none of that name."""
    from qwenctl.cli.suggest import did_you_mean

    if not told.startswith("No such option"):
        return told.strip().rstrip("."), None
    params = getattr(getattr(context, "command", None), "params", ())
    known = [name for param in params if not getattr(param, "hidden", False) for name in param.opts]
    return f"no such option: {option}", did_you_mean(option, [name for name in known if name[:2] == "--"])


def report_bug(error: Exception, printer: "Printer") -> int:
    """Report an error that nobody foresaw, with its traceback only for `$QWENCTL_DEBUG`; the exit status."""
    import os
    import traceback

    if os.environ.get("QWENCTL_DEBUG"):
        traceback.print_exception(error)
    kind = type(error).__name__
    printer.failure(
        QwenctlError(
            f"this is a bug: {kind}: {error}",
            hint="set QWENCTL_DEBUG=1 to see where, and please report it",
        )
    )
    return QwenctlError.exit_code
