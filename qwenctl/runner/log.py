"""The runner's log: a line for each thing that it, or a worker, says, in a file that stays small.

    2026-11-24T17:41:10.123Z INFO runner runner 0.1.0 is ready: process 4711
    2026-11-24T17:41:12.456Z WARNING qwen2.5:7B-Q4_K_M llama.cpp: n_ctx_seq (4096) < n_ctx_train (32768)

Time, level, who said it (the runner, or a worker by the name of its model), text. Beyond its limit the file
becomes the old one, and a new one begins. What has another form (the last words of an interpreter) is a text
alone.
"""

import logging
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from itertools import chain
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import msgspec

RUNNER: Final = "runner"
"""The source of what the runner itself says."""
LIMIT_BYTES: Final = 4 * 1024 * 1024
LINE_LIMIT_BYTES: Final = 16 * 1024
"""What is longer goes on in a further line."""

_LINE: Final = re.compile(r"(\d{4}-\d\d-\d\dT[\d:.]+Z) ([A-Z]+) (\S+) (.*)", re.DOTALL)
_LEVELLED: Final = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
_HEARD: Final = ("qwenctl", "uvicorn")
_POLL_SECONDS: Final = 0.2
_workers: Final = logging.getLogger("qwenctl.worker")


class LogLine(msgspec.Struct, frozen=True):
    """A line of the log; `time`, `level` and `source` are None where it has another form than ours."""

    time: str | None
    level: str | None
    source: str | None
    text: str

    def is_about(self, model: str) -> bool:
        """Whether a model said it, or the runner of that model."""
        return self.source == model or (self.source == RUNNER and f"`{model}`" in self.text)


def parse_line(text: str) -> LogLine:
    """A line as it is in the file."""
    match = _LINE.fullmatch(text)
    return LogLine(*match.groups()) if match else LogLine(None, None, None, text)


def old_log(path: Path) -> Path:
    """Where the file at `path` goes when it is full."""
    return path.with_suffix(f".old{path.suffix}")


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """What the runner says goes into the file at `path`, whose directory is there, from now to the end."""
    handler = RotatingFileHandler(
        path, maxBytes=LIMIT_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace", delay=True
    )
    handler.namer = lambda _: str(old_log(path))
    handler.setFormatter(_Formatter())
    loggers = [logging.getLogger(name) for name in _HEARD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    loggers[0].setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
        handler.close()


def log_of_worker(source: str, line: bytes) -> None:
    """What a worker wrote to its stderr; a level may go before it."""
    text = line.decode("utf-8", "replace").rstrip()
    if not text:
        return
    match = _LEVELLED.fullmatch(text)
    level, said = (match[1], match[2]) if match else ("INFO", text)
    _workers.log(logging.getLevelNamesMapping()[level], "%s", said, extra={"source": source})


class _Formatter(logging.Formatter):
    """Our form; a record of several lines (a traceback) goes on in lines of its own, with the same head."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        moment = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        source = getattr(record, "source", RUNNER)
        head = f"{moment}.{int(record.msecs):03d}Z {record.levelname} {source}"
        return "\n".join(f"{head} {line}" for line in super().format(record).splitlines() or [""])


def read_log(
    path: Path, count: int | None, wanted: Callable[[LogLine], bool], position_bytes: int | None = None
) -> list[LogLine]:
    """The last `count` lines (None: all) that are `wanted`, of the old file and the one in use, of this only
    what is before the position, where one is given.
    """
    lines = chain(_lines(old_log(path)), _lines(path, position_bytes))
    return list(deque(filter(wanted, map(parse_line, lines)), maxlen=count))


def _lines(path: Path, position_bytes: int | None = None) -> list[str]:
    try:
        return path.read_bytes()[:position_bytes].decode("utf-8", "replace").removesuffix("\n").split("\n")
    except FileNotFoundError:
        return []


class Follower:
    """Reads what a log gets from now on, also when the file becomes the old one and a new one begins.

    Its owner closes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedReader | None = None
        self._partial = b""
        self._open()
        self.position = self._file.seek(0, os.SEEK_END) if self._file is not None else 0
        """Where it began, in bytes."""

    def lines(self) -> Iterator[LogLine]:
        """Lines as they come, for ever; `KeyboardInterrupt` ends it."""
        while True:
            yield from self.arrived()
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Lets go of the file."""
        if self._file is not None:
            self._file.close()

    def arrived(self) -> Iterator[LogLine]:
        """The whole lines that have come since the last call."""
        yield from self._rest()
        if self._moved():
            yield from self._rest()  # what came between the last read and the move
            self._open()
            yield from self._rest()

    def _rest(self) -> Iterator[LogLine]:
        if self._file is None:
            return
        *whole, self._partial = (self._partial + self._file.read()).split(b"\n")
        for line in whole:
            yield parse_line(line.decode("utf-8", "replace"))

    def _moved(self) -> bool:
        """Whether the path names another file now, or the same one was emptied."""
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        here = os.fstat(self._file.fileno())
        return not os.path.samestat(there, here) or here.st_size < self._file.tell()

    def _open(self) -> None:
        self.close()
        try:
            self._file, self._partial = self._path.open("rb"), b""
        except FileNotFoundError:
            self._file = None
