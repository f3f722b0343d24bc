"""`qwenctl launch`: a program that talks to models, started so that it talks to ours."""

import os
import shlex
import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from qwenctl.cli.options import Json
from qwenctl.cli.output import Printer, table
from qwenctl.errors import FileMissing, UsageError

if TYPE_CHECKING:
    from qwenctl.flows.launch import Program, Wiring
    from qwenctl.settings import Settings

FREE_PORT: Final = "http://127.0.0.1:PORT"
"""The address in a dry run where a server would be started: the port is not known before."""
_MASK: Final = "********"
_NAMED: Final = 5  # models that a hint names


class ProgramReport(msgspec.Struct, frozen=True):
    """A program that is known; `installed` is null for `env`, which is none."""

    name: str
    summary: str
    installed: bool | None
    install: str


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How a program is, or would be, started. A key of the user's is masked, but for `env`.

    `starts_server`: a server is started for it, on a free port in place of `PORT`. `removed` are variables
    that it does not get; `files` are written for it, the place of the directory they are in is `{files}`.
    """

    program: str
    model: str
    url: str
    starts_server: bool
    command: list[str]
    environment: dict[str, str]
    removed: list[str]
    files: dict[str, str]


class LaunchReport(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `launch --json`: all programs, or the plan for one."""

    programs: list[ProgramReport]
    plan: LaunchPlan | None


def launch(
    program: Annotated[
        str | None, typer.Argument(metavar="[PROGRAM]", help="Without, they are listed.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]", help="For the program, after `--`.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="Pulled first when it is missing.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be run; start nothing.")
    ] = False,
    config: Annotated[
        bool, typer.Option("--config", help="Print what to set, for good, beside `qwenctl serve`.")
    ] = False,
    shell: Annotated[str, typer.Option("--shell", metavar="sh|fish", help="The shell of `env`.")] = "sh",
    json: Json = False,
) -> None:
    """Start a program, wired to a model: claude, codex, opencode, open-webui, aider, llm, or env.

    A running `qwenctl serve` is used; else one is started on a free port of 127.0.0.1 and ends with the
    program, whose exit status this has. `env` prints variables for other programs.

    Examples: qwenctl launch claude -m qwen3:8B · qwenctl launch llm -- "Why?" · eval "$(qwenctl launch env)"
    """
    from qwenctl.cli.model_place import find_or_pull
    from qwenctl.cli.suggest import did_you_mean
    from qwenctl.cli.wiring import load_settings
    from qwenctl.flows.launch import PROGRAMS, exports, find_program

    printer = Printer("launch", json)
    if program is None:
        _list(printer, PROGRAMS)
        return
    chosen = find_program(program, did_you_mean)
    settings = load_settings()
    if chosen.executable is None:
        if not dry_run:
            model = find_or_pull(_model(model, settings), settings, printer, force=False).name
        wiring, plan = _planned(chosen, arguments, model, settings, printer, lasting=True)
        printer.result(LaunchReport(programs=[], plan=plan), exports(wiring, shell))
        return
    if dry_run or config:
        _, plan = _planned(chosen, arguments, model, settings, printer, lasting=config)
        printer.result(LaunchReport(programs=[], plan=plan), _text(plan))
        return
    if json:
        raise UsageError(
            "the program has stdout to itself", hint="`--dry-run --json` tells how it is started"
        )
    if shutil.which(chosen.executable) is None:
        raise FileMissing(f"`{chosen.executable}` is not installed", hint=chosen.install)
    _start(chosen, arguments or [], model, settings, printer)


def _start(
    program: "Program", arguments: list[str], model: str | None, settings: "Settings", printer: Printer
) -> None:
    """Model, where it is kept → server → program, to its end. Leaves with its exit status."""
    from qwenctl.cli.launch_run import endpoint_of, run_program, write_files
    from qwenctl.cli.model_place import find_or_pull

    name = find_or_pull(_model(model, settings), settings, printer, force=False).name
    with endpoint_of(name, settings) as endpoint:
        wiring = program.wire(endpoint)
        place = write_files(settings.state / "launch" / program.name, wiring.files) if wiring.files else ""
        environment = {key: value for key, value in os.environ.items() if key not in wiring.removed}
        environment |= {key: value.replace("{files}", place) for key, value in wiring.environment.items()}
        status = run_program([str(program.executable), *wiring.arguments, *arguments], environment)
    sys.exit(status)


def _planned(
    program: "Program",
    arguments: list[str] | None,
    model: str | None,
    settings: "Settings",
    printer: Printer,
    *,
    lasting: bool,
) -> "tuple[Wiring, LaunchPlan]":
    """How it would be started; `lasting` is with the address of `qwenctl serve`, also when none runs."""
    from qwenctl.cli.api_key import key_of
    from qwenctl.cli.launch_run import served_at
    from qwenctl.flows.launch import DUMMY_KEY, Endpoint

    url = served_at(settings)
    starts = url is None and not lasting
    if url is None and lasting:
        url = f"http://127.0.0.1:{settings.port}"
        printer.note("nothing listens there yet: start `qwenctl serve`")
    key = key_of(settings, os.environ)
    shown = key if program.executable is None else key and _MASK
    endpoint = Endpoint(url or FREE_PORT, _model(model, settings), shown or DUMMY_KEY)
    wiring = program.wire(endpoint)
    command = (
        [] if program.executable is None else [program.executable, *wiring.arguments, *(arguments or [])]
    )
    plan = LaunchPlan(
        program=program.name,
        model=endpoint.model,
        url=endpoint.url,
        starts_server=starts and program.executable is not None,
        command=command,
        environment=dict(wiring.environment),
        removed=list(wiring.removed),
        files=dict(wiring.files),
    )
    return wiring, plan


def _model(name: str | None, settings: "Settings") -> str:
    """The model that was named, else one in memory, else the only one in the store. Raises: UsageError."""
    from qwenctl.cli.wiring import open_store
    from qwenctl.runner.client import RunnerClient

    if name is not None:
        return name
    runner = RunnerClient.running(settings)
    for loaded in runner.loaded() if runner else ():
        return loaded.name
    stored = sorted(reference.familiar() for reference, _ in open_store(settings).tags())
    if len(stored) == 1:
        return stored[0]
    more = f"here are {', '.join(stored[:_NAMED])}" if stored else "`qwenctl search` finds some"
    raise UsageError("no model is named, and none is loaded", hint=f"give `--model MODEL`; {more}")


def _list(printer: Printer, programs: "tuple[Program, ...]") -> None:
    reports = [
        ProgramReport(
            one.name,
            one.summary,
            None if one.executable is None else shutil.which(one.executable) is not None,
            one.install,
        )
        for one in programs
    ]
    rows = [
        (one.name, one.summary, "" if one.installed is None else "yes" if one.installed else one.install)
        for one in reports
    ]
    printer.result(LaunchReport(programs=reports, plan=None), table(("PROGRAM", "WHAT", "INSTALLED"), rows))


def _text(plan: LaunchPlan) -> str:
    """The command as it would be typed, its variables before it; then its files."""
    lines = ["# a server is started first, on a free PORT of 127.0.0.1"] if plan.starts_server else []
    lines += [f"unset {name}" for name in plan.removed]
    lines += [f"{name}={shlex.quote(value)} \\" for name, value in plan.environment.items()]
    lines += [shlex.join(plan.command)]
    for name, content in plan.files.items():
        lines += ["", f"# {{files}}/{name}", content.rstrip("\n")]
    return "\n".join(lines)
