"""What commands print: one result on stdout, everything else on stderr, or one JSON document.

    {"schema": 1, "command": "list", "status": "ok", "exit_code": 0, "data": …, "errors": []}

The envelope is the same for every command, and on failure too. Commands that stream print one JSON
object per line and end with the envelope.
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
        """One line of a stream; nothing for a person."""
        if self.as_json:
            write_line(encode(event))

    def note(self, text: str) -> None:
        """A line on stderr for a person; nothing with `--json`, and with `--quiet` only warnings."""
        if not self.as_json and (not self.quiet or text.startswith("warning:")):
            complain(text)

    def failure(self, error: QwenctlError) -> None:
        """The error: in the envelope on stdout, or as `error:` and `hint:` lines on stderr."""
        if self.as_json:
            report = ErrorReport(error.code, error.message, error.hint)
            envelope = Envelope(SCHEMA, self.command, "error", error.exit_code, error.report, [report])
            write_line(encode(envelope))
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
    """One line on stderr."""
    _write(sys.stderr, text)


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


def silence_stdout() -> None:
    """After a closed pipe: nothing more can be said, also not by the interpreter on its way out."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows under upper-case headers, columns two spaces apart, no trailing spaces."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        _COLUMN_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(pairs: Iterable[tuple[str, str]]) -> str:
    """`Name:  value` lines with the values in one column; pairs without a value are left out."""
    shown = [(f"{name}:", value) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}{_COLUMN_GAP}{value}".rstrip() for name, value in shown)


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
