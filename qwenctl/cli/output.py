"""What commands print: one result on stdout, everything else on stderr, or one JSON document.

    {"schema": 1, "command": "list", "status": "ok", "exit_code": 0, "data": …, "errors": []}

The envelope is the same for every command, and on failure too. Commands that stream print one JSON
object per line and end with the envelope.

A pipe that nobody reads any more changes neither what a command does nor its status: work goes on untold,
and what only prints ends there, with 0.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from qwenctl.errors import QwenctlError

SCHEMA: Final = 1
"""Version of the envelope; a field is only ever added within one version."""

_COLUMN_GAP: Final = "  "


class ErrorReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of `errors` in the envelope."""

    code: str
    message: str
    hint: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """The document that `--json` prints."""

    schema: int
    command: str
    status: str
    exit_code: int
    data: Any
    errors: list[ErrorReport]


class Printer:
    """Prints the outcome of one command, for a person or, with `as_json`, for a program.

    `quiet` leaves out the lines beside the result, but for errors and warnings.
    """

    def __init__(self, command: str, as_json: bool, quiet: bool = False) -> None:
        self.command = command
        self.as_json = as_json
        self.quiet = quiet

    def result(self, data: object, text: str = "") -> None:
        """The result: `data` in the envelope, or `text` (no line break when empty)."""
        if self.as_json:
            write_line(encode(Envelope(SCHEMA, self.command, "ok", 0, data, [])))
        elif text:
            write_line(text)

    def event(self, event: object) -> None:
        """One line about work that goes on, also when nobody reads it; nothing for a person."""
        if self.as_json:
            _write_if_read(sys.stdout, encode(event))

    def note(self, text: str) -> None:
        """A line on stderr for a person; nothing with `--json`, and with `--quiet` only warnings."""
        if not self.as_json and (not self.quiet or text.startswith("warning:")):
            complain(text)

    def failure(self, error: QwenctlError) -> None:
        """The error: in the envelope on stdout, or as `error:` and `hint:` lines on stderr."""
        if self.as_json:
            report = ErrorReport(error.code, error.message, error.hint)
            envelope = Envelope(SCHEMA, self.command, "error", error.exit_code, error.report, [report])
            _write_if_read(sys.stdout, encode(envelope))
            return
        complain(f"error: {error.message}")
        if error.hint:
            complain(f"hint: {error.hint}")


def encode(value: object) -> str:
    """JSON in one line; times in RFC 3339, paths and digests as text.

    Bytes of a path that are no text become lone surrogates, escaped, as `os.fsdecode` has them.
    """
    try:
        return msgspec.json.encode(value, enc_hook=str).decode()
    except UnicodeEncodeError:
        import json

        return json.dumps(msgspec.to_builtins(value, enc_hook=str), separators=(",", ":"))


def write_line(text: str) -> None:
    """One line on stdout, at once."""
    _write(sys.stdout, text)


def complain(text: str) -> None:
    """One line on stderr; lost when nobody reads it."""
    _write_if_read(sys.stderr, text)


def _write_if_read(stream: TextIO, text: str) -> None:
    try:
        _write(stream, text)
    except BrokenPipeError:
        silence(stream)
    except OSError:  # what stderr goes to is full: there is nowhere left to say it
        if stream is not sys.stderr:
            raise
        silence(stream)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(f"{text}\n")
    except UnicodeEncodeError:  # a path that is no text goes out as it is on the disk, all else spelled out
        stream.flush()
        stream.buffer.write(text.encode(stream.encoding, _escaping(stream.encoding)) + b"\n")
    stream.flush()


def _escaping(encoding: str) -> str:
    """How to write what `encoding` has no bytes for."""
    return "surrogateescape" if encoding.lower().replace("-", "") == "utf8" else "backslashreplace"


def silence(stream: TextIO) -> None:
    """After a closed pipe: nothing more is said there, also not by the interpreter on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def silence_closed() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more."""
    from select import POLLERR, POLLHUP, poll

    closed = False
    for stream in (sys.stdout, sys.stderr):
        watched = poll()
        watched.register(stream.fileno(), 0)  # both events are told unasked; macOS has the other one
        if any(event & (POLLERR | POLLHUP) for _, event in watched.poll(0)):
            silence(stream)
            closed = True
    return closed


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under upper-case headers, columns two spaces apart, no trailing spaces."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        _COLUMN_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def narrowed(
    headers: Sequence[str], rows: Iterable[Sequence[str]], spared: Iterable[str], columns: int | None
) -> str:
    """The table without as many of its `spared` columns as it takes to have `columns` at most; None: all."""
    lines = [[*row] for row in rows]
    kept = [*headers]
    for name in spared if columns else ():
        widths = [max(len(line[at]) for line in (kept, *lines)) for at in range(len(kept))]
        if sum(widths) + len(_COLUMN_GAP) * (len(kept) - 1) <= (columns or 0):
            break
        at = kept.index(name)
        for line in (kept, *lines):
            del line[at]
    return table(kept, lines)


def terminal_columns() -> int | None:
    """How wide stdout is; None where it is no terminal."""
    if not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """`Name:  value` lines with the values in one column; pairs without a value are left out."""
    shown = [(f"{name}:", value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}{_COLUMN_GAP}{value}".rstrip() for name, value in shown)


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """Why a file cannot be used, as it goes into a message."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    return (error.strerror or str(error)).lower()


def counted(count: int, thing: str) -> str:
    """`1 model`, `2 models`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long before `now` (this moment) `moment` was, in one unit: `3 hours ago`."""
    if moment is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for limit, unit in ((31536000, "year"), (2592000, "month"), (604800, "week"), (86400, "day")):
        if seconds >= limit:
            return _plural(int(seconds // limit), unit)
    for limit, unit in ((3600, "hour"), (60, "minute")):
        if seconds >= limit:
            return _plural(int(seconds // limit), unit)
    return "just now"


def _plural(count: int, unit: str) -> str:
    return f"{counted(count, unit)} ago"
