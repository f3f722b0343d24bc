"""The commands, registered in the order in which `--help` lists them."""

from typing import Annotated

import typer

from qwenctl import __version__
from qwenctl.cli.df import df
from qwenctl.cli.fit import fit
from qwenctl.cli.host import host
from qwenctl.cli.inspect import inspect
from qwenctl.cli.list import list_models
from qwenctl.cli.login import login
from qwenctl.cli.logout import logout
from qwenctl.cli.output import write_line
from qwenctl.cli.package import package
from qwenctl.cli.prune import prune
from qwenctl.cli.ps import ps
from qwenctl.cli.pull import pull
from qwenctl.cli.push import push
from qwenctl.cli.registry import app as registry
from qwenctl.cli.rm import rm
from qwenctl.cli.run import run
from qwenctl.cli.runner_service import runner_service
from qwenctl.cli.serve import serve
from qwenctl.cli.show import show
from qwenctl.cli.status import status
from qwenctl.cli.stop import stop
from qwenctl.cli.tag import tag
from qwenctl.cli.verify import verify
from qwenctl.cli.version import version

app = typer.Typer(
    name="qwenctl",
    help="Pull open language models from OCI registries, keep them verified, run them on llama.cpp.",
    epilog="Start with: qwenctl run guide",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: rich would double the time of every --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


app.command("pull")(pull)
app.command("fit")(fit)
app.command("run")(run)
app.command("list")(list_models)
app.command("ls", hidden=True)(list_models)
app.command("show")(show)
app.command("inspect")(inspect)
app.command("tag")(tag)
app.command("rm")(rm)
app.command("verify")(verify)
app.command("prune")(prune)
app.command("df")(df)
app.command("package")(package)
app.command("push")(push)
app.command("login")(login)
app.command("logout")(logout)
app.command("ps")(ps)
app.command("stop")(stop)
app.command("unload", hidden=True)(stop)
app.command("serve")(serve)
app.add_typer(registry, name="registry")
app.command("host")(host)
app.command("status")(status)
app.command("version")(version)
app.command("runner-service", hidden=True)(runner_service)
