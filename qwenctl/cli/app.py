"""The commands: a row for each, in the order in which `--help` lists them.

A command's module is imported when the command is asked for and no earlier: `list` loads nothing of `fit`.
"""

from importlib import import_module
from typing import Annotated, Any, Final, NamedTuple

import typer

from qwenctl import __version__
from qwenctl.cli.help import Group, TextCommand, two_columns
from qwenctl.cli.output import write_line


class Row(NamedTuple):
    """A command: its name, where its function (or its group) is, and a summary of at most 27 characters."""

    name: str
    target: str
    summary: str
    hidden: bool = False


COMMANDS: Final = (
    Row("run", "qwenctl.cli.run:run", "chat, or answer one prompt"),
    Row("pull", "qwenctl.cli.pull:pull", "download a model, verified"),
    Row("search", "qwenctl.cli.search:search", "find models"),
    Row("fit", "qwenctl.cli.fit:fit", "will it fit this machine?"),
    Row("list", "qwenctl.cli.list:list_models", "models in the store"),
    Row("show", "qwenctl.cli.show:show", "a model's card"),
    Row("inspect", "qwenctl.cli.inspect:inspect", "manifest, config, layers"),
    Row("tag", "qwenctl.cli.tag:tag", "give another name"),
    Row("rm", "qwenctl.cli.rm:rm", "remove models"),
    Row("package", "qwenctl.cli.package:package", "a model from a GGUF file"),
    Row("push", "qwenctl.cli.push:push", "send to a registry"),
    Row("login", "qwenctl.cli.login:login", "an account at a registry"),
    Row("logout", "qwenctl.cli.logout:logout", "forget the account"),
    Row("df", "qwenctl.cli.df:df", "what the store takes"),
    Row("verify", "qwenctl.cli.verify:verify", "read every blob again"),
    Row("prune", "qwenctl.cli.prune:prune", "remove what nobody needs"),
    Row("purge", "qwenctl.cli.purge:purge", "remove everything"),
    Row("serve", "qwenctl.cli.serve:serve", "the API in the foreground"),
    Row("chats", "qwenctl.cli.chats:app", "conversations, saved"),
    Row("ps", "qwenctl.cli.ps:ps", "models that are loaded"),
    Row("stop", "qwenctl.cli.stop:stop", "unload models"),
    Row("configure", "qwenctl.cli.configure:configure", "how a model is loaded"),
    Row("bench", "qwenctl.cli.bench:bench", "how fast a model is"),
    Row("launch", "qwenctl.cli.launch:launch", "a program on a model"),
    Row("context", "qwenctl.cli.context:app", "runners elsewhere"),
    Row("requests", "qwenctl.cli.requests:requests", "what was asked lately"),
    Row("logs", "qwenctl.cli.logs:logs", "what the runner said"),
    Row("status", "qwenctl.cli.status:status", "where things are"),
    Row("registry", "qwenctl.cli.registry:app", "an OCI registry to serve"),
    Row("host", "qwenctl.cli.host:host", "this machine's memory, GPUs"),
    Row("config", "qwenctl.cli.config:app", "settings and their origins"),
    Row("completion", "qwenctl.cli.completion:completion", "script for your shell"),
    Row("schema", "qwenctl.cli.schema:schema", "what --json prints"),
    Row("help", "qwenctl.cli.help_command:help_", "this, or a command's help"),
    Row("version", "qwenctl.cli.version:version", "what is installed"),
    Row("launch-service", "qwenctl.cli.launch_service:launch_service", "for programs", hidden=True),
    Row("runner-service", "qwenctl.cli.runner_service:runner_service", "for programs", hidden=True),
)
ALIASES: Final = {"ls": "list", "unload": "stop"}
"""Names that Docker or habit has for commands; they work, and are not listed."""

ABOUT_THIS_MACHINE: Final = {
    **dict.fromkeys(("list", "show", "inspect", "tag", "rm", "package", "push", "df", "verify"), "told"),
    **dict.fromkeys(("prune", "purge", "fit", "host"), "told"),
    **dict.fromkeys(("pull", "logs", "launch"), "refused"),
}
"""Commands that a context does not move elsewhere: it is told, or refused where it would be misunderstood."""

GROUPS: Final = frozenset(row.name for row in COMMANDS if row.target.endswith(":app"))
"""Names that have commands below them."""

_ROWS: Final = {row.name: row for row in COMMANDS}
_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}


class Commands(Group):
    """The root: commands by name, each loaded when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands that are listed."""
        return [row.name for row in COMMANDS if not row.hidden]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or of that alias; None when there is none."""
        row = _ROWS.get(ALIASES.get(cmd_name, cmd_name))
        if row is None:
            return None
        if row.name not in self.commands:
            self.commands[row.name] = load(row)
        return self.commands[row.name]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Every command on one screen."""
        formatter.write("Usage: qwenctl COMMAND …          (qwenctl COMMAND --help, qwenctl --version)\n\n")
        formatter.write(two_columns([(row.name, row.summary) for row in COMMANDS if not row.hidden]))
        formatter.write("\nExamples:  qwenctl run guide   qwenctl pull qwen2.5   qwenctl list --json\n")


def load(row: Row) -> Any:
    """The command of a row, its module imported."""
    module, _, attribute = row.target.partition(":")
    target = getattr(import_module(module), attribute)
    if isinstance(target, typer.Typer):
        target.info.cls, target._add_completion = Group, False
        for info in target.registered_commands:
            info.cls = TextCommand
        group = typer.main.get_command(target)
        group.name = row.name
        return group
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(row.name, cls=TextCommand, hidden=row.hidden, context_settings=_CONTEXT)(target)
    return typer.main.get_command(alone)


app = typer.Typer(
    name="qwenctl",
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich would double the time of every --help
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


def _version(wanted: bool) -> None:
    if wanted:
        write_line(f"qwenctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Pull open language models from OCI registries, keep them verified, run them on llama.cpp."""
