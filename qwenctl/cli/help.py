"""How help looks: 80 columns, one line an option, the examples last, `-h` on one screen.

`--help` shows everything; `-h` stops at 24 lines and says how many options it left out.
"""

import re
from collections.abc import Sequence
from textwrap import fill, wrap
from typing import Any, Final

from typer.core import TyperCommand, TyperGroup

WIDTH: Final = 80
HEIGHT: Final = 24

_INDENT: Final = "  "
_WIDEST: Final = 30  # columns of a name; a longer one has its text on the next line
_EXAMPLES: Final = re.compile(r"\s*\bExamples?: (.*?)(?=\n\n|\Z)", re.DOTALL)


def split_examples(docstring: str) -> tuple[str, tuple[str, ...]]:
    """The text of a command's docstring, and its examples: `Example: A`, or `Examples: A · B`."""
    examples: list[str] = []
    for found in _EXAMPLES.findall(docstring):
        examples += (" ".join(one.split()) for one in re.split(r"\s·\s", found))
    return _EXAMPLES.sub("", docstring).strip(), tuple(examples)


def two_columns(pairs: Sequence[tuple[str, str]]) -> str:
    """Names with their summaries in two columns, read downwards."""
    width = max(len(name) for name, _ in pairs)
    cells = [f"{_INDENT}{name.ljust(width)} {text}" for name, text in pairs]
    half = (len(cells) + 1) // 2
    left = (WIDTH - 2) // 2
    lines = [
        f"{cell.ljust(left)}{cells[half + row] if half + row < len(cells) else ''}".rstrip()
        for row, cell in enumerate(cells[:half])
    ]
    return "\n".join(lines) + "\n"


class TextCommand(TyperCommand):
    """A command whose help is laid out here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note which help is asked for; then as ever."""
        ctx.meta["qwenctl.short"] = "-h" in args and "--help" not in args
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, cut to a screen for `-h`."""
        formatter.write(render(self, ctx, short=bool(ctx.meta.get("qwenctl.short"))))


class Group(TyperGroup):
    """A group of commands, with the same layout; without arguments it shows its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As ever; no arguments are the question what there is."""
        parsed: list[str] = super().parse_args(ctx, args or ["--help"])
        return parsed

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """What the group is for, and its commands."""
        text, _ = split_examples(self.help or "")
        pairs = [
            (name, summary(command.help or ""))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        width = max(len(name) for name, _ in pairs)
        lines = [f"Usage: {ctx.command_path} COMMAND …", "", fill(text, WIDTH - 2), ""]
        lines += [line for name, text in pairs for line in _row(name, text, width)]
        formatter.write("\n".join(lines) + "\n")


def summary(docstring: str) -> str:
    """The first sentence of a docstring, without its full stop."""
    first = " ".join(docstring.split("\n\n")[0].split())
    return first.split(". ")[0].rstrip(".")


def render(command: Any, ctx: Any, *, short: bool) -> str:
    """The help of one command; `short`: at most 24 lines, by leaving out options."""
    text, examples = split_examples(command.help or "")
    head = [_usage(command, ctx), ""]
    for paragraph in text.split("\n\n"):
        head += [*wrap(" ".join(paragraph.split()), WIDTH - 2), ""]
    rows = _rows(command)
    tail = ["", "Examples:", *(_example(example) for example in examples)] if examples else []
    room = HEIGHT - 1 - len(head) - len(tail)  # the prompt needs a line, too
    if short and sum(map(len, rows)) > room:
        shown = next(count for count in range(len(rows), 0, -1) if sum(map(len, rows[:count])) < room)
        more = f"{_INDENT}… and {len(rows) - shown} more: {ctx.command_path} --help"
        rows = [*rows[:shown], [more]]
    return "\n".join([*head, *(line for row in rows for line in row), *tail]) + "\n"


def arguments_of(command: Any) -> list[Any]:
    """The positional parameters."""
    return [param for param in command.params if param.param_type_name == "argument"]


def options_of(command: Any) -> list[Any]:
    """The options that are listed, in the order of the code."""
    return [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]


def metavar(param: Any) -> str:
    """What stands for the value: `MODEL`, `FILE`; empty for a flag."""
    if getattr(param, "is_flag", False):
        return ""
    kind = param.type.name.split()[0]
    return str(param.metavar or {"int": "N", "integer": "N", "float": "X", "path": "PATH"}.get(kind, "TEXT"))


def _usage(command: Any, ctx: Any) -> str:
    parts = [ctx.command_path, *(["[OPTIONS]"] if options_of(command) else [])]
    for argument in arguments_of(command):
        name = metavar(argument) if argument.metavar else str(argument.name).upper()
        parts.append(name if argument.required or name.startswith("[") else f"[{name}]")
    return f"Usage: {' '.join(parts)}"


def _rows(command: Any) -> list[list[str]]:
    """The lines of every parameter."""
    pairs = []
    for argument in arguments_of(command):
        pairs.append(((metavar(argument) or str(argument.name).upper()).strip("[]"), argument.help or ""))
    for option in options_of(command):
        pairs.append((spelled(option), (option.help or "") + _default(option)))
    pairs = [(name, text.strip()) for name, text in pairs if text]
    width = max((len(name) for name, _ in pairs if len(name) <= _WIDEST), default=0)
    return [_row(name, text, width) for name, text in pairs]


def _row(name: str, text: str, width: int) -> list[str]:
    """A name and its text beside it, wrapped; below it where the name is too long."""
    left = f"{_INDENT}{' ' * width}  "
    lines = [f"{left}{line}" for line in wrap(text, WIDTH - len(left))]
    if len(name) > width:
        return [f"{_INDENT}{name}", *lines]
    return [f"{_INDENT}{name.ljust(width)}  {lines[0][len(left) :]}", *lines[1:]]


def spelled(option: Any) -> str:
    """`-f, --force`, `    --port N`: short name, long names, the value."""
    short = [name for name in option.opts if not name.startswith("--")]
    long = [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]
    value = metavar(option)
    names = ", ".join([*short, *long]) if short else "    " + ", ".join(long)
    return f"{names} {value}".rstrip() if value else names


def _default(option: Any) -> str:
    """` (5000)` after the text of an option with a default of its own."""
    value = option.default
    if callable(value) or value in (None, False, "", ()) or getattr(option, "is_flag", False):
        return ""
    return f" ({value})"


def _example(example: str) -> str:
    """An example, broken where a shell lets it be when it is too long."""
    if len(example) <= WIDTH - len(_INDENT):
        return f"{_INDENT}{example}"
    lines = wrap(example, WIDTH - 6, break_long_words=False, break_on_hyphens=False)
    return " \\\n".join(f"{_INDENT}{'  ' if row else ''}{line}" for row, line in enumerate(lines))
