"""The tree of commands as plain values: what help, completions and the man page are made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from qwenctl.cli.help import arguments_of, metavar, options_of, render, split_examples

MODEL: Final = "model"
"""A value that is a model: of the store or of the catalogue."""
STORED: Final = "stored"
"""A value that is a model of the store."""
FILE: Final = "file"
KEY: Final = "setting"
CONTEXT: Final = "context"
"""A value that is the name of a context."""
REGISTRY: Final = "registry"
"""A value that is a registry: one that is logged in to, or that names in the store have."""
CHAT: Final = "chat"
"""A value that is the id of a saved chat."""

_MODELS: Final = {"run", "pull", "fit", "show"}  # commands that take a model which is not in the store
_NO_FILES: Final = {"TEXT", "N", "X", "DIGEST"}


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """An option: all its names, what stands for its value (empty for a flag), its help, what completes it."""

    names: tuple[str, ...]
    value: str
    help: str
    kind: str


@dataclass(frozen=True, slots=True)
class ArgumentSpec:
    """A positional parameter."""

    name: str
    help: str
    required: bool
    many: bool
    kind: str


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A command or a group, whole; `path` are the words that call it, none for the root."""

    path: tuple[str, ...]
    aliases: tuple[str, ...]
    summary: str
    text: str
    examples: tuple[str, ...]
    arguments: tuple[ArgumentSpec, ...]
    options: tuple[OptionSpec, ...]
    commands: tuple["CommandSpec", ...]
    help_text: str

    @property
    def name(self) -> str:
        """The words in one text."""
        return " ".join(self.path)

    @property
    def command_names(self) -> tuple[str, ...]:
        """The last words of the commands below."""
        return tuple(command.path[-1] for command in self.commands)

    def leaves(self) -> "Iterator[CommandSpec]":
        """Every command below, groups left out."""
        for command in self.commands:
            if command.commands:
                yield from command.leaves()
            else:
                yield command


def read() -> CommandSpec:
    """The whole tree, every module imported."""
    from qwenctl.cli.app import ALIASES, COMMANDS

    root, ctx = _root()
    commands = []
    for row in COMMANDS:
        if not row.hidden:
            aliases = tuple(alias for alias, name in ALIASES.items() if name == row.name)
            commands.append(_spec(root.get_command(ctx, row.name), ctx, (row.name,), row.summary, aliases))
    return _of_root(root, ctx, tuple(commands))


def find(path: tuple[str, ...]) -> CommandSpec | None:
    """The command that `path` calls, also by an alias; of the tree only what lies on the way is imported."""
    from qwenctl.cli.app import ALIASES, COMMANDS

    root, ctx = _root()
    if not path:
        below = tuple(_listed(row.name, row.summary) for row in COMMANDS if not row.hidden)
        return _of_root(root, ctx, below)
    name = ALIASES.get(path[0], path[0])
    command = root.get_command(ctx, name)
    if command is None:
        return None
    spec = _spec(command, ctx, (name,))
    for word in path[1:]:
        found = [below for below in spec.commands if below.path[-1] == word]
        if not found:
            return None
        spec = found[0]
    return spec


def _root() -> tuple[Any, Any]:
    import typer

    from qwenctl.cli.app import app

    command: Any = typer.main.get_command(app)
    return command, command.context_class(command, info_name="qwenctl", terminal_width=80)


def _listed(name: str, summary: str) -> CommandSpec:
    return CommandSpec((name,), (), summary, "", (), (), (), (), "")


def _of_root(root: Any, ctx: Any, commands: tuple[CommandSpec, ...]) -> CommandSpec:
    return CommandSpec((), (), root.help, root.help, (), (), _options(root), commands, root.get_help(ctx))


def _spec(
    command: Any, parent: Any, path: tuple[str, ...], summary: str = "", aliases: tuple[str, ...] = ()
) -> CommandSpec:
    from qwenctl.cli.help import summary as first_sentence

    ctx = command.context_class(command, info_name=path[-1], parent=parent, terminal_width=80)
    text, examples = split_examples(command.help or "")
    below = getattr(command, "commands", {})
    return CommandSpec(
        path=path,
        aliases=aliases,
        summary=summary or first_sentence(text),
        text=text,
        examples=examples,
        arguments=tuple(_argument(param, path) for param in arguments_of(command)),
        options=_options(command),
        commands=tuple(_spec(one, ctx, (*path, name)) for name, one in below.items() if not one.hidden),
        help_text=command.get_help(ctx) if below else render(command, ctx, short=False),
    )


def _argument(param: Any, path: tuple[str, ...]) -> ArgumentSpec:
    name = str(param.metavar or param.name.upper()).strip("[]")
    kind = _kind_of_argument(name, path)
    return ArgumentSpec(name, param.help or "", param.required, param.nargs == -1, kind)


def _kind_of_argument(name: str, path: tuple[str, ...]) -> str:
    word = name.rstrip("…")
    if word in {"MODEL", "SOURCE"}:
        return MODEL if path[0] in _MODELS else STORED
    if "|" in word:
        return word
    if word == "PROGRAM":
        from qwenctl.flows.launch import PROGRAMS

        return "|".join(program.name for program in PROGRAMS)
    if word == "NAME" and path[0] == "context" and path[-1] != "create":
        return CONTEXT
    known = {"KEY": KEY, "FILE": FILE, "COMMAND": "command", "REGISTRY": REGISTRY}
    return CHAT if word == "ID" else known.get(word, "")


def _options(command: Any) -> tuple[OptionSpec, ...]:
    listed = [
        OptionSpec(
            (*option.opts, *option.secondary_opts),
            metavar(option),
            option.help or "",
            _kind_of_value(metavar(option), option.opts),
        )
        for option in options_of(command)
    ]
    return (*listed, OptionSpec(("-h", "--help"), "", "Show help.", ""))


def _kind_of_value(value: str, names: Sequence[str]) -> str:
    if "--context-url" in names:
        return CONTEXT
    if kind := {"MODEL": MODEL, "ID": CHAT}.get(value):
        return kind
    if value in {"FILE", "PATH"} or value.endswith(".json"):
        return FILE
    return value if "|" in value and value.replace("|", "").replace("-", "").isalnum() else ""
