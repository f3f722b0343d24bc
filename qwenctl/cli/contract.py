"""What `--json` prints, by command: the type of `data`, and of the lines before it where there are any.

    {"schema": 1, "command": …, "status": …, "exit_code": …, "data": …, "errors": […]}

The types are named by their places, so that nothing is imported before somebody wants a schema. A test
holds the commands against this table, and what they print against the schemas that are made from it.
"""

from typing import Final, NamedTuple


class Contract(NamedTuple):
    """The data of a command's envelope (None: null), of a failure's too when it has some, and its lines."""

    data: str | None
    lines: tuple[str, ...] = ()
    failure_data: bool = False


_PROGRESS: Final = ("qwenctl.cli.progress:PlannedLine", "qwenctl.cli.progress:ProgressLine")

CONTRACTS: Final = {
    "run": Contract("qwenctl.cli.run:Reply"),
    "chats list": Contract("qwenctl.cli.chats:ChatListing"),
    "chats show": Contract("qwenctl.cli.chats:ChatReport"),
    "chats rm": Contract("qwenctl.cli.chats:ChatRemoval"),
    "chats export": Contract("qwenctl.cli.chats:ChatExport"),
    "pull": Contract("qwenctl.cli.pull:PullReport", _PROGRESS),
    "search": Contract("qwenctl.cli.search:SearchReport"),
    "fit": Contract("qwenctl.flows.fit_model:FitReport"),
    "list": Contract("qwenctl.cli.list:Listing"),
    "show": Contract("qwenctl.cli.show:ShowReport"),
    "inspect": Contract("qwenctl.flows.views:Inspection"),
    "tag": Contract("qwenctl.cli.tag:Tagged"),
    "rm": Contract("qwenctl.cli.rm:Removal"),
    "package": Contract("qwenctl.cli.package:Packaged", _PROGRESS),
    "push": Contract("qwenctl.cli.push:Pushed", _PROGRESS),
    "login": Contract("qwenctl.cli.login:LoginReport"),
    "logout": Contract("qwenctl.cli.logout:LogoutReport"),
    "df": Contract("qwenctl.flows.usage:UsageReport"),
    "verify": Contract(
        "qwenctl.flows.verify:VerifyReport",
        ("qwenctl.cli.check_progress:CheckingLine", "qwenctl.cli.check_progress:CheckedLine", _PROGRESS[1]),
        failure_data=True,
    ),
    "prune": Contract("qwenctl.flows.prune:PruneReport"),
    "purge": Contract("qwenctl.flows.purge:PurgeReport"),
    "serve": Contract(None, ("qwenctl.cli.serve:Serving",)),
    "ps": Contract("qwenctl.cli.ps:Loaded"),
    "stop": Contract("qwenctl.cli.stop:Stopped"),
    "configure": Contract("qwenctl.cli.configure:ConfigureReport"),
    "bench": Contract("qwenctl.cli.bench:BenchReport", failure_data=True),
    "launch": Contract("qwenctl.cli.launch:LaunchReport"),
    "context list": Contract("qwenctl.cli.context:ContextListing"),
    "context create": Contract("qwenctl.cli.context:ContextChange"),
    "context use": Contract("qwenctl.cli.context:ContextChange"),
    "context show": Contract("qwenctl.cli.context:ContextReport"),
    "context rm": Contract("qwenctl.cli.context:ContextChange"),
    "requests": Contract("qwenctl.cli.requests:RequestsReport", ("qwenctl.runner.messages:RequestRecord",)),
    "logs": Contract("qwenctl.cli.logs:LogReport", ("qwenctl.runner.log:LogLine",)),
    "status": Contract("qwenctl.cli.status:Status"),
    "registry serve": Contract(None, ("qwenctl.cli.registry:RegistryReady",)),
    "host": Contract("qwenctl.cli.host:HostReport"),
    "config list": Contract("qwenctl.cli.config:SettingsReport"),
    "config get": Contract("qwenctl.cli.config:SettingReport"),
    "config set": Contract("qwenctl.cli.config:SettingChange"),
    "config unset": Contract("qwenctl.cli.config:SettingChange"),
    "config path": Contract("qwenctl.cli.config:ConfigPath"),
    "config edit": Contract("qwenctl.cli.config:SettingChange"),
    "completion": Contract("qwenctl.cli.completion:Script"),
    "schema": Contract("qwenctl.cli.schema:SchemaReport"),
    "help": Contract("qwenctl.cli.help_command:HelpText"),
    "version": Contract("qwenctl.cli.version:Versions"),
}
"""Every command, as `command` in the envelope names it."""
