"""`main`: one command, one status. Errors are printed in one place, here."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from qwenctl.errors import DiskFull, Interrupted, QwenctlError

if TYPE_CHECKING:
    from qwenctl.cli.output import Printer


def main(argv: Sequence[str]) -> int:
    """Run the command in `argv` (without the program's name); the exit status."""
    if argv and argv[0] == "complete-words":  # at each Tab: loading typer alone would take 50 ms
        from qwenctl.cli.names import complete_words

        return complete_words(argv[1:])

    import typer

    from qwenctl.cli.output import Printer, silence_closed

    # Typer vendors click and exports only this leaf of its usage errors.
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])
    printer = Printer(command_name(argv), wants_json(argv))
    try:
        if not {"-h", "--help"} & set(argv):
            _announce(printer)
        _invoke(argv)
        return 0
    except typer.Exit as end:
        return end.exit_code
    except QwenctlError as error:
        printer.failure(error)
        return error.exit_code
    except usage_error as error:
        from qwenctl.cli.usage import usage_failure

        failure = usage_failure(error, printer.command)
        printer.failure(failure)
        return failure.exit_code
    except (KeyboardInterrupt, typer.Abort):
        printer.failure(Interrupted("interrupted"))
        return Interrupted.exit_code
    except BrokenPipeError as error:  # of our pipes, or of a socket that nobody looked after
        return 0 if silence_closed() else report_bug(error, printer)
    except OSError as error:
        return _os_failure(error, printer)
    except Exception as error:  # noqa: BLE001 - the last line: a bug is reported as one, never as a traceback
        return report_bug(error, printer)


def _invoke(argv: Sequence[str]) -> None:
    """Parse and run. Typer's own `main` would make a closed pipe status 1, and Ctrl-C an ordinary end."""
    import typer

    from qwenctl.cli.app import app

    command = typer.main.get_command(app)
    with command.make_context("qwenctl", list(argv)) as context:
        command.invoke(context)


def _os_failure(error: OSError, printer: "Printer") -> int:
    """A disk that is full is no bug, also where only the output goes there; the exit status."""
    import sys
    from errno import ENOSPC

    from qwenctl.cli.output import Printer, silence

    if error.errno != ENOSPC:
        return report_bug(error, printer)
    if error.filename is None:  # then stdout takes no envelope either
        silence(sys.stdout)
        printer = Printer(printer.command, as_json=False)
    where = "the output" if error.filename is None else f"`{error.filename}`"
    failure = DiskFull(f"cannot write {where}: no space is left")
    printer.failure(failure)
    return failure.exit_code


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
