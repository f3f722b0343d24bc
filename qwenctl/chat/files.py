"""Reading the text files that go with a message."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

from qwenctl.chat.attachments import AttachedFile
from qwenctl.errors import AccessDenied, FileMissing, UsageError
from qwenctl.units import render_bytes

LIMIT_BYTES: Final = 1024 * 1024
"""Far more than any context holds: what is longer is a slip."""

_PUNCTUATION: Final = ".,;:!?)]}'"


def existing(mention: str) -> str | None:
    """The file that a mention means: as it stands, else without punctuation behind it; None for neither."""
    for path in dict.fromkeys((mention, mention.rstrip(_PUNCTUATION))):
        if path and _path(path).is_file():
            return path
    return None


def read_text_file(name: str) -> AttachedFile:
    """The text of a file. Raises: FileMissing, AccessDenied; UsageError for what is no text, or too much."""
    try:
        # Without O_NONBLOCK a pipe with this name would hold the chat up.
        handle = os.open(_path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise FileMissing(f"`{name}` does not exist") from error
        raise AccessDenied(f"`{name}` cannot be read: {(error.strerror or '').lower()}") from error
    except ValueError as error:
        raise UsageError("a path has no zero byte") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UsageError(f"`{name}` is not a file")
    with os.fdopen(handle, "rb") as file:
        raw = file.read(LIMIT_BYTES + 1)
    if len(raw) > LIMIT_BYTES:
        raise UsageError(f"`{name}` is too long for a message: it has more than {render_bytes(LIMIT_BYTES)}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"`{name}` is not a text file in UTF-8", hint="only text can go into a message")
    return AttachedFile(name, text)


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)
