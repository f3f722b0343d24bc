"""The man page, qwenctl(1), as roff: made from the tree of commands."""

from collections.abc import Iterator
from typing import Final

from qwenctl import __version__
from qwenctl.cli.tree import ArgumentSpec, CommandSpec, OptionSpec

EXIT_STATUS: Final = {
    0: "done",
    1: "a bug in qwenctl",
    2: "the request is wrong: arguments, names, settings, state",
    3: "not found: model, tag, file",
    4: "network, registry or authentication",
    5: "integrity: damaged or malformed content; nothing of it was kept as good",
    6: "does not fit: memory or disk",
    7: "the engine: loading or generating failed",
    130: "interrupted",
}
"""What each exit status means; the README has the same table."""


def render(tree: CommandSpec) -> str:
    """The page. It has no date, so that the same commands make the same page."""
    lines = [
        rf'.TH QWENCTL 1 "" "qwenctl {__version__}" "User Commands"',
        ".SH NAME",
        r"qwenctl \- pull, keep and run open language models",
        ".SH SYNOPSIS",
        r".B qwenctl",
        r".I COMMAND",
        r"[\fIOPTIONS\fR] [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION",
        _text(tree.text),
        ".PP",
        "The result of a command is on standard output, everything else on standard error.",
        r"With \fB\-\-json\fR the result is one JSON document, on failure too;",
        r"\fBqwenctl schema\fR describes it.",
        ".SH COMMANDS",
    ]
    for command in tree.leaves():
        lines += _command(command)
    lines += [".SH EXIT STATUS"]
    for status, meaning in EXIT_STATUS.items():
        lines += [".TP", rf".B {status}", _text(meaning)]
    lines += _settings()
    lines += [".SH SEE ALSO", r".BR jq (1),", r".BR skopeo (1)"]
    return "\n".join(lines) + "\n"


def _command(command: CommandSpec) -> Iterator[str]:
    words = " ".join([rf"\fBqwenctl {_text(command.name)}\fR", *map(_argument, command.arguments)])
    yield f".SS {words}"
    for index, paragraph in enumerate(command.text.split("\n\n")):
        if index:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))
    if command.aliases:
        yield from (".PP", f"Also called {_text(', '.join(command.aliases))}.")
    for option in command.options:
        yield from (".TP", _option(option), _text(option.help))
    if command.examples:
        yield from (".PP", "Examples:", ".PP", ".nf", ".RS 4")
        yield from map(_text, command.examples)
        yield from (".RE", ".fi")


def _argument(argument: ArgumentSpec) -> str:
    name = rf"\fI{_text(argument.name)}\fR"
    return name if argument.required else f"[{name}]"


def _option(option: OptionSpec) -> str:
    names = ", ".join(rf"\fB{_text(name)}\fR" for name in option.names)
    return rf"{names} \fI{_text(option.value)}\fR" if option.value else names


def _settings() -> Iterator[str]:
    from qwenctl.settings import FILE_KEYS, variable_of

    yield ".SH ENVIRONMENT"
    yield r"Each goes before the setting of the file, which \fBqwenctl config\fR shows and changes."
    for key in FILE_KEYS:
        yield from (".TP", rf".B {variable_of(key)}", rf"the setting \fB{_text(key)}\fR")
    yield from (".TP", ".B QWENCTL_CONFIG", "the settings file")
    yield from (".TP", ".B NO_COLOR", "no colours")
    yield ".SH FILES"
    yield r"\fBqwenctl config path\fR prints where the settings file is,"
    yield r"\fBqwenctl status\fR where all else is."


def _text(text: str) -> str:
    """`text` for roff: nothing in it is a request, and a hyphen stays one when it is copied."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
