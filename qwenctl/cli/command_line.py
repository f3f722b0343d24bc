"""`main`: one command, one status. Errors are printed in one place, here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from qwenctl.errors import Interrupted, QwenctlError, UsageError

if TYPE_CHECKING:
    from qwenctl.cli.output import Printer

_GROUPS: Final = frozenset({"registry"})


def main(argv: Sequence[str]) -> int:
    """Run the command in `argv` (without the program's name); the exit status."""
    import typer

    from qwenctl.cli.app import app
    from qwenctl.cli.output import Printer, silence_stdout

    # Typer vendors click and exports only this leaf of its usage errors.
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])
    printer = Printer(command_name(argv), wants_json(argv))
    try:
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


def wants_json(argv: Sequence[str]) -> bool:
    """Whether `--json` is among the options, known before the arguments are parsed."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in options


def command_name(argv: Sequence[str]) -> str:
    """The command in `argv`, `registry serve` in two words; empty without one."""
    words = [word for word in argv if not word.startswith("-")]
    if not words:
        return ""
    return " ".join(words[:2]) if words[0] in _GROUPS else words[0]


def _usage_failure(error: BaseException) -> UsageError:
    """Typer's complaint as ours, with the command's help as the next step."""
    render = getattr(error, "format_message", None)
    message = str(render() if callable(render) else error).strip().rstrip(".")
    path = getattr(getattr(error, "ctx", None), "command_path", "qwenctl")
    return UsageError(message[:1].lower() + message[1:], hint=f"see `{path} --help`")


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
